"""Load of a selector by load class and by variant, for the autoscaler.

Hot path: a query adds to plain counters found by one key. Pure: the caller passes the time.
"""

from typing import Final

from schemas.load_classes import ClassCount, CountsByClass, SelectorLoad, class_key
from schemas.query import Query

REPORT_INTERVAL_S: Final = 1.0
"""Seconds between two reports of a selector."""


class _Count:
    """Load of one load class since the last report."""

    __slots__ = ("inputs", "queries", "refused", "upgraded")

    def __init__(self) -> None:
        self.queries = self.inputs = self.refused = self.upgraded = 0


class LoadMeter:
    """Load counted by one selector, by load class and by variant."""

    def __init__(self, selector: str) -> None:
        self._selector = selector
        self._classes = CountsByClass(_Count)
        self._variants: dict[str, int] = {}

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
            )
            for load_class, count in self._classes.take()
        )
        variants, self._variants = self._variants, {}
        return SelectorLoad(selector=self._selector, at_ms=at_ms, classes=classes, variants=variants, lanes=lanes or {})

    def _count(self, query: Query, tenant_class: str | None) -> _Count:
        deadline_ms = query.deadline_ms
        latency_ms = None if deadline_ms is None else deadline_ms - query.sent_ms
        count = self._classes.of(query.task, class_key(query.needs, latency_ms, tenant_class))
        asked = 1 + query.rejected_upstream
        count.queries += asked
        count.inputs += asked * query.batch
        count.refused += query.rejected_upstream
        return count
