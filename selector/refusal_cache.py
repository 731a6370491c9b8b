"""Cache of recent refusals: similar queries are refused without evaluating candidates again. Pure.

Under a flood most queries of a fetch are refused in a row for the same reason, a backlog that takes too long. It does
not change between one query and the next. Rules.

* Similar queries have the same task, tenant, size and needs, and a deadline not much later than the refused one's.
* A refusal is valid for a small share of the time that was left to the query. So capacity that becomes free stays
  unused for at most that long, and the instances, whose queues reach close to the deadlines, stay busy.
* The number of entries is bounded. Queries refused from the cache are counted as load nevertheless.
"""

from typing import Final, TypeAlias

import msgspec

from schemas.needs import Needs
from schemas.query import Query
from selector.choice import Refusal

_SHARE: Final = 0.02
"""Validity of a refusal, as a share of the query's time to its deadline."""
_LONGEST_S: Final = 0.01
"""Longest validity in seconds; also that of a query without a deadline."""
_MOST: Final = 256

_Likeness: TypeAlias = tuple[str | None, int, Needs]


class _Refused(msgspec.Struct, frozen=True, gc=False):
    refusal: Refusal
    holds_s: float
    until: float
    deadline_ms: float | None


class RefusalCache:
    """Valid refusals of one task."""

    def __init__(self) -> None:
        self._kept: dict[_Likeness, _Refused] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, query: Query, now: float) -> Refusal | None:
        """Return a cached refusal that holds for the query; None if it must be evaluated."""
        if not self._kept:
            return None
        found = self._kept.get((query.tenant, query.batch, query.needs))
        if found is None or now > found.until:
            return None
        deadline_ms, latest_ms = query.deadline_ms, found.deadline_ms
        if deadline_ms is None or latest_ms is None:
            return found.refusal if deadline_ms is latest_ms else None
        is_alike = 1e3 * now < deadline_ms <= latest_ms + 1e3 * found.holds_s  # a late query needs its own error
        return found.refusal if is_alike else None

    def keep(self, query: Query, refusal: Refusal, now: float) -> None:
        """Cache the refusal of a query."""
        deadline_ms = query.deadline_ms
        holds_s = _LONGEST_S if deadline_ms is None else min(_SHARE * (deadline_ms / 1e3 - now), _LONGEST_S)
        if len(self._kept) >= _MOST:
            self._kept.clear()
        kept = _Refused(refusal, holds_s, now + holds_s, deadline_ms)
        self._kept[query.tenant, query.batch, query.needs] = kept
