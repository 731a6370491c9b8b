"""CPU time for which a selector decides nothing because the catalog or the prices change, at 10,000 variants.

A thousand workers have ten instances each. A variant is registered; then a worker joins that is dearer than the others
of its hardware, which prices all variants. The time is that of the update of the selector's view, without Postgres.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from bench.core.database import synthetic_profile, synthetic_variant
from bench.core.figures import Figure, within
from schemas.latency import BatchLatency
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.cluster_state import ClusterState

if TYPE_CHECKING:
    from schemas.rows.catalog import Profile, Variant

_VARIANTS: Final = 10_000
_TASKS: Final = 20
_WORKERS: Final = 1_000
_INSTANCES: Final = 10
_ROUNDS: Final = 9
_PROMISED_MS: Final = 20.0
_PRICE: Final = 0.2


async def measure() -> list[Figure]:
    """Measure both; takes some seconds."""
    catalog = SyntheticCatalog()
    more = range(1, _ROUNDS + 1)
    registered = [_cpu_ms(partial(catalog.add, _VARIANTS + number)) for number in more]
    dearer = [_cpu_ms(partial(catalog.join, _WORKERS + number, _PRICE * (1 + number))) for number in more]
    name = f"selector, {_VARIANTS:,} variants, {_WORKERS * _INSTANCES:,} instances"
    return [
        within(f"{name}: a variant is registered", "none", registered, "ms", _PROMISED_MS),
        within(f"{name}: a dearer worker joins", "none", dearer, "ms", _PROMISED_MS),
    ]


class SyntheticCatalog:
    """Catalog of many variants, and a selector's view of it and of the workers."""

    def __init__(self) -> None:
        self._state = ClusterState()
        self._rows: dict[str, Variant] = {}
        self._profiles: dict[str, Profile] = {}
        for number in range(_VARIANTS):
            self._put(number)
        self._register()
        for worker in range(_WORKERS):
            self.join(worker, _PRICE)

    def add(self, number: int) -> None:
        """Register one more variant."""
        self._put(number)
        self._register()

    def join(self, worker: int, price: float) -> None:
        """Take the first status of a worker."""
        numbers = range(worker * _INSTANCES, (worker + 1) * _INSTANCES)
        owned = (PartitionStatus(0, 0, 0),)
        names = [_name(number % _VARIANTS) for number in numbers]
        instances = [InstanceStatus(variant=name, state=InstanceState.ACTIVE, partitions=owned) for name in names]
        status = WorkerStatus(
            worker=f"cpu-{worker}", hardware="cpu", epoch=1, at_ms=0.0, slots=4, price_per_hour=price,
            memory_used=0, memory_total=1 << 34, instances=tuple(instances),
        )  # fmt: skip
        self._state.apply_status(status, 0.0)

    def _put(self, number: int) -> None:
        name = _name(number)
        latency = [BatchLatency(batch, 0.01 * batch, 0.01 * batch) for batch in (1, 2, 4, 8, 16, 32)]
        variant = synthetic_variant(name, f"task-{number % _TASKS}", max_batch=32, partitions=4)
        self._rows[name], self._profiles[name] = variant, synthetic_profile(name, latency)

    def _register(self) -> None:
        self._state.register([f"task-{number}" for number in range(_TASKS)], self._rows.values(), self._profiles)


def _name(number: int) -> str:
    return f"arch-{number:05}.onnx-fp32.cpu"


def _cpu_ms(change: Callable[[], None]) -> float:
    began_s = time.process_time()
    change()
    return 1e3 * (time.process_time() - began_s)
