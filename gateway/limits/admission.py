"""Refusal of queries in the gateway after a selector has just refused similar ones. Pure; the time is an argument.

A refusal by the selector uses resources of the overloaded system, and clients that retry at once multiply its cost.
Rules:

* A class of queries comprises everything that can change the selector's decision: task, all needs, size and tenant. A
  query is therefore never refused because of another tenant's query or of one with stricter needs.
* After `overloaded` a class is full until the time that the selector named. Each answer to a query of a full class
  admits one further query, so the class has as many queries in flight as the system answers, and a refusal lowers their
  number. Admission thus finds the capacity from above, as TCP does by acknowledgements (Jacobson 1988).
* Refused queries count as demand: the next admitted query of the class reports their number, so that fair shares and
  scaling follow the real demand.
* At most `most` classes are full; a further one evicts the oldest.

While nothing is overloaded the table is empty, and a query costs one check of that.
"""

from math import inf
from typing import Final, TypeAlias

from schemas.errors import Overloaded, RefusalReason
from schemas.query import MAX_REJECTED_UPSTREAM, Needs, Query

_MOST_CREDIT: Final = 16
"""Maximum number of queries that answers have admitted and that have not come yet."""
_LONGEST_S: Final = 5.0
"""Maximum time for which a selector's refusal counts; the selector may have stopped meanwhile."""
_MOST: Final = 1024

AskClass: TypeAlias = tuple[str, Needs, int, str | None, float | None]
"""Task, needs, inputs, tenant, and milliseconds until the deadline."""


class _FullClass:
    """State of a class that is full, or that has refusals left to report."""

    __slots__ = ("credit", "rejected_upstream", "until")

    def __init__(self) -> None:
        self.until = -inf
        self.credit = 0
        self.rejected_upstream = 0

    def admits(self, now: float) -> bool:
        """Return true if a query may pass; use up the credit of an answer."""
        if now < self.until:
            if not self.credit:
                return False
            self.credit -= 1
        return True


class Admission:
    """Full classes of one gateway."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._full: dict[AskClass, _FullClass] = {}

    def __len__(self) -> int:
        return len(self._full)

    def ask(self, query: Query, now: float) -> int:
        """Admit a query; return the number of queries of its class that were refused since the last admitted one.

        Raises:
            Overloaded: the class is full; the error says for how long.
        """
        if not self._full:
            return 0
        key = _class_of(query)
        full = self._full.get(key)
        if full is None:
            return 0
        if not full.admits(now):
            full.rejected_upstream = min(full.rejected_upstream + 1, MAX_REJECTED_UPSTREAM)
            raise Overloaded(reason=RefusalReason.RECENTLY_REFUSED, retry_after_s=full.until - now)
        rejected_upstream, full.rejected_upstream = full.rejected_upstream, 0
        if now >= full.until:
            del self._full[key]
        return rejected_upstream

    def refused(self, query: Query, retry_after_s: float, now: float) -> None:
        """Record that the selector refused an admitted query, and when the class may try again."""
        full = self._put(_class_of(query))
        full.until = now + min(retry_after_s, _LONGEST_S)

    def answered(self, query: Query) -> None:
        """Record another answer to an admitted query than overload."""
        full = self._full.get(_class_of(query)) if self._full else None
        if full is not None:
            full.credit = min(full.credit + 1, _MOST_CREDIT)

    def _put(self, key: AskClass) -> _FullClass:
        full = self._full.get(key)
        if full is None:
            if len(self._full) >= self._most:
                del self._full[next(iter(self._full))]
            full = self._full[key] = _FullClass()
        return full


def _class_of(query: Query) -> AskClass:
    deadline_ms = query.deadline_ms
    budget_ms = None if deadline_ms is None else round(deadline_ms - query.sent_ms, 1)
    return query.task, query.needs, query.batch, query.tenant, budget_ms
