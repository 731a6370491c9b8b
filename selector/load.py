"""Counts what is asked, by needs class, for the autoscaler.

Hot: `forwarded` or `refused` runs once a query and adds to a counter that it finds by one key. Classes start anew with
each report, so those that nobody asks for any more are gone by themselves. A task has at most `CLASSES` of them in a
report; what is beyond is counted as the coarsest class of the task, as if it asked for nothing.
"""

from math import frexp, sqrt
from typing import Final, TypeAlias

from schemas.load import ClassCount, LoadClass, SelectorLoad
from schemas.needs import Mode
from schemas.query import Query

CLASSES: Final = 256
_COARSEST: Final = (None, 0, None, False)
_HALF_OCTAVE: Final = sqrt(0.5)
_FAST: Final = -8
"""Bucket of all that must be answered within a sixteenth of a millisecond."""
_SLOW: Final = 48
"""Bucket of all that may take 4 hours or longer."""

_Key: TypeAlias = tuple[str | None, int, int | None, bool]
"""Target, accuracy in hundredths, bucket of latency, offline."""


class _Count:
    """Of one class since the last report."""

    __slots__ = ("inputs", "queries", "refused", "upgraded")

    def __init__(self) -> None:
        self.queries = self.inputs = self.refused = self.upgraded = 0


class LoadMeter:
    """Of one selector."""

    def __init__(self, selector: str) -> None:
        self._selector = selector
        self._tasks: dict[str, dict[_Key, _Count]] = {}
        self._variants: dict[str, int] = {}

    def forwarded(self, query: Query, variant: str, upgraded: bool) -> None:
        """A query was sent on; its task and target are registered."""
        count = self._count(query)
        if upgraded:
            count.upgraded += 1
        self._variants[variant] = self._variants.get(variant, 0) + query.batch

    def refused(self, query: Query, overloaded: bool) -> None:
        """A query went nowhere though some registered variant could have answered it."""
        count = self._count(query)
        if overloaded:
            count.refused += 1

    def report(self, at_ms: float) -> SelectorLoad:
        """What was counted since the last report."""
        classes = tuple(
            ClassCount(
                load_class=_named(task, key),
                queries=count.queries,
                inputs=count.inputs,
                refused=count.refused,
                upgraded=count.upgraded,
            )
            for task, counts in self._tasks.items()
            for key, count in counts.items()
        )
        said = SelectorLoad(selector=self._selector, at_ms=at_ms, classes=classes, variants=self._variants)
        self._tasks, self._variants = {}, {}
        return said

    def _count(self, query: Query) -> _Count:
        needs, deadline_ms = query.needs, query.deadline_ms
        key = (
            needs.target,
            int((needs.min_accuracy or 0.0) * 100 + 1e-9),  # 0.29 * 100 is a little less than 29
            None if deadline_ms is None else latency_bucket(deadline_ms - query.sent_ms),
            needs.mode is Mode.OFFLINE,
        )
        counts = self._tasks.get(query.task)
        count = None if counts is None else counts.get(key)
        if count is None:
            count = self._begin(query.task, key)
        count.queries += 1
        count.inputs += query.batch
        return count

    def _begin(self, task: str, key: _Key) -> _Count:
        counts = self._tasks.setdefault(task, {})
        if len(counts) >= CLASSES - 1:  # the last place is the coarsest's
            key = _COARSEST
        return counts.setdefault(key, _Count())


def latency_bucket(ms: float) -> int:
    """Number of the bucket: two an octave, bucket 0 begins at 1 ms."""
    if ms <= 0:
        return _FAST
    mantissa, exponent = frexp(ms)
    bucket = 2 * exponent - 2 + (mantissa >= _HALF_OCTAVE)
    return min(max(bucket, _FAST), _SLOW)


def _named(task: str, key: _Key) -> LoadClass:
    target, hundredths, bucket, offline = key
    latency_ms = None if bucket is None else round(2 ** (bucket / 2), 3)
    return LoadClass(task, target, hundredths / 100, latency_ms, offline)
