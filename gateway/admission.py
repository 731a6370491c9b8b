"""What a gateway refuses by itself, because a selector has just refused the like: pure, the time comes in.

A refusal that travels to the selector and back costs some of the very machine that is full, and clients that ask again
at once multiply it. Rules.

* A class is everything by which a selector could decide otherwise: the task, all needs, the size and the tenant. So no
  tenant is refused for what another asked, and nobody for what somebody asked who wanted more.
* Its last answer counts. Was that `overloaded`, the class is full until the moment that the selector named with it, and
  refused here till then. Any other answer opens it at once: while a machine is overloaded but works, answers of both
  kinds come, and what gets through is the geometric mean of what is asked and what can be answered. That is always more
  than the latter, so nothing is idle for being too strict.
* One query goes through each `_PROBE_S` even while its class is full: its answer says whether there is room by now.
* Who was refused here has asked all the same. The next query of the class says how many they were, so that shares and
  scale are decided by what is asked.
* At most `most` classes are full; the one that was told first is forgotten for another.

While nothing is overloaded the table is empty, and that is all a query looks at.
"""

from math import inf
from typing import Final, TypeAlias

from schemas.errors import Overloaded
from schemas.needs import Needs
from schemas.query import MAX_TURNED_AWAY, Query

_PROBE_S: Final = 0.05
_LONGEST_S: Final = 5.0
"""The longest that a selector's word is taken for; it may be gone by then."""
_MOST: Final = 1024

AskClass: TypeAlias = tuple[str, Needs, int, str | None, float | None]
"""Task, needs, inputs, tenant, and milliseconds until the deadline."""


class _FullClass:
    """A class that is full, or was and has yet to say how many it has turned away."""

    __slots__ = ("probe_at", "turned_away", "until")

    def __init__(self) -> None:
        self.until = -inf
        self.probe_at = -inf
        self.turned_away = 0


class Admission:
    """Classes that are full, as far as one gateway was told."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._full: dict[AskClass, _FullClass] = {}

    def __len__(self) -> int:
        return len(self._full)

    def ask(self, query: Query, now: float) -> int:
        """Let a query through; returns how many like it were refused here since the last that was.

        Raises:
            Overloaded: its class is full, for as long as the error says.
        """
        if not self._full:
            return 0
        key = _class_of(query)
        full = self._full.get(key)
        if full is None:
            return 0
        if now < full.until and now < full.probe_at:
            full.turned_away = min(full.turned_away + 1, MAX_TURNED_AWAY)
            raise Overloaded(retry_after_s=full.until - now)
        turned_away, full.turned_away = full.turned_away, 0
        full.probe_at = now + _PROBE_S
        if now >= full.until:
            del self._full[key]
        return turned_away

    def refused(self, query: Query, retry_after_s: float, now: float) -> None:
        """Learn that a query that was let through was refused, and when its class shall ask again."""
        full = self._put(_class_of(query))
        if full.until <= now:
            full.probe_at = now + _PROBE_S
        full.until = now + min(retry_after_s, _LONGEST_S)

    def answered(self, query: Query) -> None:
        """Learn that a query that was let through had another answer: its class is not full."""
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
