"""Load counts by load class (JSON): received and answered queries, with limits on the number of classes.

A load class holds only the properties that scaling decisions use, so clients with many different limits cause only a
few classes. A selector and a worker put a query into the same class, and each query is counted once. One part is an
exception: the class of tenants with the same access, which only the selector knows.

Selectors publish their counts once a second, for the second that ends at `at_ms`. Workers send in each status the
queries that they answered since the previous status. No count is cumulative, so a restart causes no false values.
"""

from collections.abc import Callable
from math import frexp, sqrt
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from schemas.query import Mode, Needs

CLASSES: Final = 256
_FINE: Final = 10_000
"""Steps of accuracy from 0 to 1. Accuracies within one step may share a class. Steps must be fine, because variants
differ by less than 0.01, and a class that needs less than its queries would be assigned to insufficient variants."""
_HALF_OCTAVE: Final = sqrt(0.5)
_FAST: Final = -8
"""Bucket of all latencies up to 1/16 ms."""
_SLOW: Final = 48
"""Bucket of all latencies of 4 hours or longer."""
_ROUNDED_MS: Final = 0.002
"""Tolerance for deadlines, which are sent rounded to a microsecond: a value this little below an edge is on the
edge."""

ClassKey: TypeAlias = tuple[str | None, int, int | None, bool, str | None]
"""Target, accuracy in steps of 0.0001, latency bucket, offline, class of tenants."""
COARSEST: Final[ClassKey] = (None, 0, None, False, None)
"""Class of online queries without needs."""

Count = TypeVar("Count")


class LoadClass(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Queries of one task with about the same needs."""

    task: str
    target: str | None = None
    """Architecture or variant that the queries name; None: any."""
    min_accuracy: float = 0.0
    """Lowest required accuracy, rounded down to 0.0001; 0: none."""
    latency_ms: float | None = None
    """Lower edge of the latency bucket (two buckets per octave); None: no deadline."""
    offline: bool = False
    tenant: str | None = None
    """A tenant that represents all tenants with the same access; None: tenants that may use public names only."""


class ClassCount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Queries of one class in one second. Queries that no registered variant could answer are not counted."""

    load_class: LoadClass
    queries: int = 0
    inputs: int = 0
    refused: int = 0
    """Queries that were refused as `overloaded` on arrival."""
    upgraded: int = 0
    """Queries that were sent to a more accurate variant than the one they are charged for."""
    capped: int = 0
    """Queries with a maximum cost."""
    max_costs: float = 0.0
    """Sum of these maximum costs, each in USD per 1000 inputs."""


class ClassAnswers(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Queries of one class that a worker answered since its previous status."""

    load_class: LoadClass
    queries: int = 0
    late: int = 0
    """Queries that were computed after their deadline."""
    failed: int = 0
    """Queries that were answered with an error."""
    unfounded: int = 0
    """Inputs that a header claimed and the value did not contain; selectors counted them as load."""


class SelectorLoad(msgspec.Struct, frozen=True, kw_only=True):
    """Load of one selector in the second before `at_ms`, published also when it is idle."""

    selector: str
    at_ms: float
    """Send time by the broker's clock, ms since the epoch."""
    classes: tuple[ClassCount, ...] = ()
    variants: dict[str, int] = {}
    """Inputs forwarded, by variant."""
    lanes: dict[str, int] = {}
    """Offline queries that this selector holds from tenant lanes, by task. They show which tasks wait in the lanes."""


def class_key(needs: Needs, latency_ms: float | None, tenant_class: str | None = None) -> ClassKey:
    """Return the load class of a query that must be answered within `latency_ms` after its send time.

    Only selectors know the class of tenants; workers leave it out.
    """
    return (
        needs.target,
        int((needs.min_accuracy or 0.0) * _FINE + 1e-6),  # 0.57 * 10,000 is slightly less than 5,700
        None if latency_ms is None else latency_bucket(latency_ms + _ROUNDED_MS),
        needs.mode is Mode.OFFLINE,
        tenant_class,
    )


def latency_bucket(ms: float) -> int:
    """Return the bucket of a latency: there are two buckets per octave, and bucket 0 begins at 1 ms."""
    if ms <= 0:
        return _FAST
    mantissa, exponent = frexp(ms)
    bucket = 2 * exponent - 2 + (mantissa >= _HALF_OCTAVE)
    return min(max(bucket, _FAST), _SLOW)


class CountsByClass(Generic[Count]):
    """Counts by load class since the last `take`; a class without queries disappears after it.

    A task has at most `CLASSES` classes. Further queries are counted in the coarsest class of their tenants, online or
    offline. Hot path: `of` is called for each query.
    """

    def __init__(self, new: Callable[[], Count]) -> None:
        self._new = new
        self._tasks: dict[str, dict[ClassKey, Count]] = {}

    def of(self, task: str, key: ClassKey) -> Count:
        """Return the mutable count of this class."""
        counts = self._tasks.get(task)
        count = None if counts is None else counts.get(key)
        return self._begin(task, key) if count is None else count

    def take(self) -> list[tuple[LoadClass, Count]]:
        """Return all counts and reset them."""
        tasks, self._tasks = self._tasks, {}
        return [(_named(task, key), count) for task, counts in tasks.items() for key, count in counts.items()]

    def _begin(self, task: str, key: ClassKey) -> Count:
        counts = self._tasks.setdefault(task, {})
        if len(counts) >= CLASSES - 2:  # the remaining places are for the coarsest classes
            key = (None, 0, None, key[3], key[4])
        if key not in counts:
            counts[key] = self._new()
        return counts[key]


def _named(task: str, key: ClassKey) -> LoadClass:
    target, accuracy, bucket, offline, tenant = key
    latency_ms = None if bucket is None else round(2 ** (bucket / 2), 3)
    return LoadClass(task, target, accuracy / _FINE, latency_ms, offline, tenant)
