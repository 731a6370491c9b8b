"""What was refused a moment ago, so that the like of it is refused without another look. Pure: the time comes in.

Under a flood most of what a fetch brings is refused, one after the other, for the same reason: what is in the way takes
too long. That cannot have changed between one query and the next. Rules.

* Alike are queries of one task, tenant, size and needs. Neither may have its deadline much later than the one refused.
* A refusal holds for a small share of the time that was left to the query. What is worked off meanwhile stays free that
  long at most, and the instances, whose queues are filled to most of what deadlines leave, never want for work.
* A bounded number is kept. Who is refused so has asked all the same, and is counted.
"""

from typing import Final, TypeAlias

import msgspec

from schemas.needs import Needs
from schemas.query import Query
from selector.policy import Refusal

_SHARE: Final = 0.02
"""Share of the time until its deadline for which the refusal of a query holds."""
_LONGEST_S: Final = 0.01
"""The longest that one holds: of a query without a deadline, too."""
_MOST: Final = 256

_Likeness: TypeAlias = tuple[str | None, int, Needs]


class _Refused(msgspec.Struct, frozen=True, gc=False):
    refusal: Refusal
    holds_s: float
    until: float
    deadline_ms: float | None


class RefusedLately:
    """Refusals of one task that hold."""

    def __init__(self) -> None:
        self._kept: dict[_Likeness, _Refused] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, query: Query, now: float) -> Refusal | None:
        """The refusal that is the query's, too; None: it must be looked at."""
        if not self._kept:
            return None
        found = self._kept.get((query.tenant, query.batch, query.needs))
        if found is None or now > found.until:
            return None
        deadline_ms, latest_ms = query.deadline_ms, found.deadline_ms
        if deadline_ms is None or latest_ms is None:
            return found.refusal if deadline_ms is latest_ms else None
        is_alike = 1e3 * now < deadline_ms <= latest_ms + 1e3 * found.holds_s  # what is late already is told so
        return found.refusal if is_alike else None

    def keep(self, query: Query, refusal: Refusal, now: float) -> None:
        """Keep the refusal of a query."""
        deadline_ms = query.deadline_ms
        holds_s = _LONGEST_S if deadline_ms is None else min(_SHARE * (deadline_ms / 1e3 - now), _LONGEST_S)
        if len(self._kept) >= _MOST:
            self._kept.clear()
        kept = _Refused(refusal, holds_s, now + holds_s, deadline_ms)
        self._kept[query.tenant, query.batch, query.needs] = kept
