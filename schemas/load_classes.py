"""Load counted by load class (JSON): what was asked and answered; and the bounds on how many classes there are.

A class is what the scale may be decided by and no finer, so that there are few however many limits clients invent. A
selector and a worker put the same query into the same class, which is counted once a query; but only the selector knows
which tenants may use the same, which is a part of the class, too.

Selectors publish what they were asked once a second: counts are of the second that ends at `at_ms`. Workers say in each
status what they answered since the one before. None is cumulative: who restarts says nothing false.
"""

from collections.abc import Callable
from math import frexp, sqrt
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from schemas.needs import Mode, Needs

CLASSES: Final = 256
_FINE: Final = 10_000
"""Steps of accuracy from 0 to 1: accuracies within one may be in one class. Those of variants differ by less than a
hundredth, and a class that asks for less than its queries is thought to be served by what would not do."""
_HALF_OCTAVE: Final = sqrt(0.5)
_FAST: Final = -8
"""Bucket of all that must be answered within a sixteenth of a millisecond."""
_SLOW: Final = 48
"""Bucket of all that may take 4 hours or longer."""
_ROUNDED_MS: Final = 0.002
"""A deadline travels rounded to a microsecond: what lies this little below an edge is meant to be on it."""

ClassKey: TypeAlias = tuple[str | None, int, int | None, bool, str | None]
"""Target, accuracy in ten thousandths, bucket of latency, offline, class of tenants."""
COARSEST: Final[ClassKey] = (None, 0, None, False, None)
"""The class of online queries that ask for nothing."""

Count = TypeVar("Count")


class LoadClass(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Queries of one task that ask for about the same."""

    task: str
    target: str | None = None
    """The architecture or variant that clients name instead of any."""
    min_accuracy: float = 0.0
    """Least accuracy asked for, rounded down to 0.0001; 0 where none is."""
    latency_ms: float | None = None
    """Lower edge of the bucket of latencies, of which there are two an octave; None: no deadline."""
    offline: bool = False
    tenant: str | None = None
    """One of the tenants that may use the same as who asked; None: what everybody may."""


class ClassCount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Queries of one class in a second, without those that no registered variant could ever answer."""

    load_class: LoadClass
    queries: int = 0
    inputs: int = 0
    refused: int = 0
    """Queries that were answered `overloaded` at once."""
    upgraded: int = 0
    """Queries that were given to a more accurate variant than they are charged for."""


class ClassAnswers(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a worker answered of one class since its status before."""

    load_class: LoadClass
    queries: int = 0
    late: int = 0
    """Queries that were computed, but after their deadline."""
    failed: int = 0
    """Queries that were answered with an error."""
    unfounded: int = 0
    """Inputs that headers of these claimed and that were not there; selectors have counted them."""


class SelectorLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What one selector did in the second before `at_ms`; published also when it was idle."""

    selector: str
    at_ms: float
    """When it was sent, by the broker's clock, ms since the epoch."""
    classes: tuple[ClassCount, ...] = ()
    variants: dict[str, int] = {}
    """Inputs sent on, by variant."""
    lanes: dict[str, int] = {}
    """Offline queries held of lanes, by task: of which tasks those are that wait there."""


def class_key(needs: Needs, latency_ms: float | None, tenant_class: str | None = None) -> ClassKey:
    """The class of a query that is to be answered within `latency_ms` of when it was sent.

    Which tenants may use the same is known to selectors; a worker, which is given what may be used, leaves that out.
    """
    return (
        needs.target,
        int((needs.min_accuracy or 0.0) * _FINE + 1e-6),  # 0.57 * 10,000 is a little less than 5,700
        None if latency_ms is None else latency_bucket(latency_ms + _ROUNDED_MS),
        needs.mode is Mode.OFFLINE,
        tenant_class,
    )


def latency_bucket(ms: float) -> int:
    """Number of the bucket of a latency: two an octave, bucket 0 begins at 1 ms."""
    if ms <= 0:
        return _FAST
    mantissa, exponent = frexp(ms)
    bucket = 2 * exponent - 2 + (mantissa >= _HALF_OCTAVE)
    return min(max(bucket, _FAST), _SLOW)


class CountsByClass(Generic[Count]):
    """Counts by load class since they were last taken: a class that nobody asks for any more is gone by itself.

    A task has at most `CLASSES` of them; what is beyond is counted as the coarsest class of its tenants, online or
    offline. Hot: `of` runs once a query.
    """

    def __init__(self, new: Callable[[], Count]) -> None:
        self._new = new
        self._tasks: dict[str, dict[ClassKey, Count]] = {}

    def of(self, task: str, key: ClassKey) -> Count:
        """The count of this class, to add to."""
        counts = self._tasks.get(task)
        count = None if counts is None else counts.get(key)
        return self._begin(task, key) if count is None else count

    def take(self) -> list[tuple[LoadClass, Count]]:
        """Return all counts, and begin anew."""
        tasks, self._tasks = self._tasks, {}
        return [(_named(task, key), count) for task, counts in tasks.items() for key, count in counts.items()]

    def _begin(self, task: str, key: ClassKey) -> Count:
        counts = self._tasks.setdefault(task, {})
        if len(counts) >= CLASSES - 2:  # the last ones are the coarsest's
            key = (None, 0, None, key[3], key[4])
        if key not in counts:
            counts[key] = self._new()
        return counts[key]


def _named(task: str, key: ClassKey) -> LoadClass:
    target, accuracy, bucket, offline, tenant = key
    latency_ms = None if bucket is None else round(2 ** (bucket / 2), 3)
    return LoadClass(task, target, accuracy / _FINE, latency_ms, offline, tenant)
