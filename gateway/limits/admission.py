"""Refusal of queries in the gateway after a selector has just refused similar ones. Pure; the time is an argument.

A refusal by the selector uses resources of the overloaded system, and clients that retry at once multiply its cost.
Rules:

* A class of queries comprises everything that can change the selector's decision: task, all needs, size and tenant. A
  query is therefore never refused because of another tenant's query or of one with stricter needs.
* The last answer of a class counts. After `overloaded` the class is full until the time that the selector named, and
  its queries are refused here. Any other answer reopens the class at once. While an overloaded system works, answers of
  both kinds arrive, and the admitted rate is the geometric mean of demand and capacity. It always exceeds the capacity,
  so admission never leaves capacity idle.
* Every `_PROBE_S` one query of a full class is let through as a probe; its answer shows whether there is capacity
  again.
* Refused queries count as demand: the next admitted query of the class reports their number, so that fair shares and
  scaling follow the real demand.
* At most `most` classes are full; a further one evicts the oldest.

While nothing is overloaded the table is empty, and a query costs one check of that.
"""

from math import inf
from typing import Final, TypeAlias

from schemas.errors import Overloaded, RefusalReason
from schemas.query import MAX_REJECTED_UPSTREAM, Needs, Query

_PROBE_S: Final = 0.05
_LONGEST_S: Final = 5.0
"""Maximum time for which a selector's refusal counts; the selector may have stopped meanwhile."""
_MOST: Final = 1024

AskClass: TypeAlias = tuple[str, Needs, int, str | None, float | None]
"""Task, needs, inputs, tenant, and milliseconds until the deadline."""


class _FullClass:
    """State of a class that is full, or that has refusals left to report."""

    __slots__ = ("probe_at", "rejected_upstream", "until")

    def __init__(self) -> None:
        self.until = -inf
        self.probe_at = -inf
        self.rejected_upstream = 0


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
        if now < full.until and now < full.probe_at:
            full.rejected_upstream = min(full.rejected_upstream + 1, MAX_REJECTED_UPSTREAM)
            raise Overloaded(reason=RefusalReason.RECENTLY_REFUSED, retry_after_s=full.until - now)
        rejected_upstream, full.rejected_upstream = full.rejected_upstream, 0
        full.probe_at = now + _PROBE_S
        if now >= full.until:
            del self._full[key]
        return rejected_upstream

    def refused(self, query: Query, retry_after_s: float, now: float) -> None:
        """Record that the selector refused an admitted query, and when the class may try again."""
        full = self._put(_class_of(query))
        if full.until <= now:
            full.probe_at = now + _PROBE_S
        full.until = now + min(retry_after_s, _LONGEST_S)

    def answered(self, query: Query) -> None:
        """Record another answer to an admitted query than overload: its class is not full."""
        full = self._full.get(_class_of(query)) if self._full else None
        if full is not None:
            full.until = -inf

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
