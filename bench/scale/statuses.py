"""CPU time that a status takes in a selector, by the worker's number of instances and its load.

An idle worker's instances stay as they are. On a busy worker two instances compute, others in each status, and half of
the slots are free; on a full worker a query of any instance would wait. The time is that of decoding and of the update
of the selector's view, without Kafka. The baseline takes each status whole, as if each instance had changed.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from typing import Final
from unittest.mock import patch

import msgspec

from bench.core.database import synthetic_profile, synthetic_variant
from bench.core.figures import Figure, beside
from schemas.latency import BatchLatency
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance

INSTANCES: Final = (10, 100)
BACKLOGS_S: Final = {"idle": (0.0, 0.0, 0.0, 0.0), "busy": (0.0, 0.0, 0.03, 0.05), "full": (0.02, 0.04, 0.05, 0.06)}
"""Seconds until each slot is free, by load."""
_WORKERS: Final = 20
_STATUSES: Final = 20
_ROUNDS: Final = 9
_COMPUTING: Final = 2
_INTERVAL_S: Final = 0.1
_MAX_BATCH: Final = 32
_START_S: Final = 1_700_000_000.0
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(WorkerStatus).decode


async def measure() -> list[Figure]:
    """Measure all sizes and loads, with the baseline in turns; takes half a minute."""
    return [_figure(size, load) for size in INSTANCES for load in BACKLOGS_S]


def _figure(size: int, load: str) -> Figure:
    ours, whole = StatusStream(size, load), StatusStream(size, load)
    rounds = [(ours.status_us(), _whole(whole.status_us)) for _ in range(_ROUNDS)]
    name = f"selector, a status of {size} instances of a worker that is {load} (baseline: all instances changed)"
    return beside(name, "none", [us for us, _ in rounds], "us", [us for _, us in rounds])


def _whole(call: Callable[[], float]) -> float:
    with every_instance():
        return call()


@contextmanager
def every_instance() -> Generator[None]:
    """Let selectors take every instance of a status within the block."""
    with patch("selector.policy.entities.Instance.is_at_rest", _never):
        yield


def _never(_instance: Instance) -> bool:
    return False


class StatusStream:
    """Statuses of some workers with the same variants, and a selector's view that takes them.

    Args:
        size: instances of each worker.
        load: key of `BACKLOGS_S`.
    """

    def __init__(self, size: int, load: str) -> None:
        self._load, self._number, self._now = load, count(), _START_S
        self._names = [f"arch-{number:03}.onnx-fp32.cpu" for number in range(size)]
        self._instances = [[_at_rest(name, worker) for name in self._names] for worker in range(_WORKERS)]
        self._state = ClusterState()
        latency = [BatchLatency(batch, 0.01 * batch**0.5, 0.01 * batch**0.5) for batch in (1, 2, 4, 8, 16, _MAX_BATCH)]
        variants = [synthetic_variant(name, "task", max_batch=_MAX_BATCH, partitions=_WORKERS) for name in self._names]
        profiles = {name: synthetic_profile(name, latency) for name in self._names}
        self._state.register(["task"], variants, profiles)
        self.status_us()

    def status_us(self) -> float:
        """Take some statuses of each worker; return the mean microseconds of CPU of one."""
        values = [_encode(self._status(number)) for _ in range(_STATUSES) for number in range(_WORKERS)]
        apply, decode, began_s = self._state.apply_status, _decode, time.process_time()
        for value in values:
            self._now += _INTERVAL_S / _WORKERS
            apply(decode(value), self._now, 0.001)
        return 1e6 * (time.process_time() - began_s) / len(values)

    def _status(self, worker: int) -> WorkerStatus:
        instances = self._instances[worker]
        if self._load != "idle":
            for place, one in enumerate(instances):
                if one.queued:
                    instances[place] = msgspec.structs.replace(one, queued=0, queued_inputs=0, done_inputs=0.0)
            for _ in range(_COMPUTING):
                place = next(self._number) * 7 % len(instances)
                instances[place] = _computing(instances[place])
        backlogs_s = BACKLOGS_S[self._load]
        return WorkerStatus(
            worker=f"cpu-host-{worker}", hardware="cpu", epoch=1, at_ms=1e3 * _START_S, slots=len(backlogs_s),
            price_per_hour=0.2, memory_used=1 << 33, memory_total=1 << 34,
            instances=tuple(instances), slot_backlogs_s=backlogs_s, busy_s=123.456789, cpus=4.0, cpu_busy=0.333,
        )  # fmt: skip


def _at_rest(name: str, worker: int) -> InstanceStatus:
    position = 1_000 * (worker + 1)
    return InstanceStatus(
        variant=name, state=InstanceState.ACTIVE, partitions=(PartitionStatus(worker, position, position),),
        offline_partitions=(PartitionStatus(worker, 0, 0),), max_batch=_MAX_BATCH, parallel=4, batch_size=1.2345678,
        batch_s=0.012345678, slowdown=1.0345678, queue_slowdown=1.2345678, answered=position, inputs=position,
    )  # fmt: skip


def _computing(one: InstanceStatus) -> InstanceStatus:
    (owned,) = one.partitions
    position = owned.position + 1
    return msgspec.structs.replace(
        one, partitions=(PartitionStatus(owned.partition, position, position),), queued=1, queued_inputs=1,
        done_inputs=0.3456789, answered=one.answered + 1, inputs=one.inputs + 1,
    )  # fmt: skip
