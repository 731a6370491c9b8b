"""Load of a selector by load class and by variant, for the autoscaler.

Hot path: a query adds to plain counters found by one key. Pure: the caller passes the time.
"""

from math import inf
from typing import Final, NamedTuple

from schemas.load_classes import ClassCount, ClassKey, CountsByClass, SelectorLoad, class_key
from schemas.query import Needs, Query

REPORT_INTERVAL_S: Final = 1.0
"""Seconds between two reports of a selector."""
_MOST_COST: Final = 1e6
"""A larger maximum cost counts as none: JSON has no infinity, which the sum would become."""


class _Count:
    """Load of one load class since the last report."""

    __slots__ = ("capped", "inputs", "max_costs", "queries", "refused", "upgraded")

    def __init__(self) -> None:
        self.queries = self.inputs = self.refused = self.upgraded = self.capped = 0
        self.max_costs = 0.0


class _Recent(NamedTuple):
    """Class of the last query. Other queries with its needs and a latency between two known ones belong to it, too."""

    task: str
    needs: Needs
    tenant_class: str | None
    low_ms: float
    high_ms: float
    key: ClassKey
    counts: _Count


class LoadMeter:
    """Load counted by one selector, by load class and by variant."""

    def __init__(self, selector: str) -> None:
        self._selector = selector
        self._classes = CountsByClass(_Count)
        self._variants: dict[str, int] = {}
        self._recent: _Recent | None = None

    def forwarded(self, query: Query, variant: str, upgraded: bool, tenant_class: str | None = None) -> None:
        """Count a forwarded query of a tenant class; its task and target are registered."""
        count = self._count(query, tenant_class)
        if upgraded:
            count.upgraded += 1
        self._variants[variant] = self._variants.get(variant, 0) + query.batch

    def refused(self, query: Query, overloaded: bool, tenant_class: str | None = None) -> None:
        """Count a refused query that a variant its tenant may use could have answered."""
        count = self._count(query, tenant_class)
        if overloaded:
            count.refused += 1

    def report(self, at_ms: float, lanes: dict[str, int] | None = None) -> SelectorLoad:
        """Return the load since the last report; `lanes` are the held queries of lanes, by task."""
        classes = tuple(
            ClassCount(
                load_class=load_class,
                queries=count.queries,
                inputs=count.inputs,
                refused=count.refused,
                upgraded=count.upgraded,
                capped=count.capped,
                max_costs=count.max_costs,
            )
            for load_class, count in self._classes.take()
        )
        variants, self._variants, self._recent = self._variants, {}, None
        return SelectorLoad(selector=self._selector, at_ms=at_ms, classes=classes, variants=variants, lanes=lanes or {})

    def _count(self, query: Query, tenant_class: str | None) -> _Count:
        latency_ms = inf if query.deadline_ms is None else query.deadline_ms - query.sent_ms
        recent = self._recent
        if (
            recent is None
            or query.needs is not recent.needs  # equal needs are mostly the same object, see `parse_query`
            or not recent.low_ms <= latency_ms <= recent.high_ms
            or query.task != recent.task
            or tenant_class != recent.tenant_class
        ):
            recent = self._recent = self._look_up(query, latency_ms, tenant_class)
        count, asked = recent.counts, 1 + query.rejected_upstream
        count.queries += asked
        count.inputs += asked * query.batch
        count.refused += query.rejected_upstream
        if (max_cost := query.needs.max_cost) is not None and max_cost <= _MOST_COST:
            count.capped += asked
            count.max_costs += asked * max_cost / query.batch
        return count

    def _look_up(self, query: Query, latency_ms: float, tenant_class: str | None) -> _Recent:
        task, needs, recent, low_ms, high_ms = query.task, query.needs, self._recent, latency_ms, latency_ms
        key = class_key(needs, None if latency_ms == inf else latency_ms, tenant_class)
        if recent is not None and recent.key == key:  # a class is a range of latencies
            low_ms, high_ms = min(low_ms, recent.low_ms), max(high_ms, recent.high_ms)
        return _Recent(task, needs, tenant_class, low_ms, high_ms, key, self._classes.of(task, key))
