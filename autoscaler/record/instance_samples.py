"""Converts statuses of workers into samples; counters become differences to the previous reading.

An idle and unchanged instance is written only once a minute, because most of thousands are idle. Without that row the
minute would look as if the instance had been unloaded.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from autoscaler.decide.snapshot import WorkerLoad
from schemas.rows.samples import InstanceSample, WorkerSample
from schemas.status import InstanceState, InstanceStatus, WorkerStatus

_REPEAT: Final = timedelta(minutes=1)


class _Before(NamedTuple):
    at: datetime
    """Time of the last sample."""
    epoch: int
    status: InstanceStatus


class InstanceSampler:
    """Sampler of all instances; drops instances that are gone."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, str], _Before] = {}
        self._workers = set[str]()

    def samples(self, at: datetime, workers: Iterable[WorkerStatus]) -> list[InstanceSample]:
        """Return the samples to record at this time."""
        found: list[InstanceSample] = []
        seen: dict[tuple[str, str], _Before] = {}
        known = set[str]()
        for worker in workers:
            known.add(worker.worker)
            for status in worker.instances:
                key = worker.worker, status.variant
                before = self._before.get(key)
                sample = _sample(at, worker, status, before, is_new=worker.worker not in self._workers)
                is_told = before is None or _is_news(sample, before) or at - before.at >= _REPEAT
                seen[key] = _Before(at if before is None or is_told else before.at, worker.epoch, status)
                if is_told:
                    found.append(sample)
        self._before, self._workers = seen, known
        return found


def _sample(
    at: datetime, worker: WorkerStatus, status: InstanceStatus, before: _Before | None, *, is_new: bool
) -> InstanceSample:
    # Counters begin at zero with a new epoch or a new load; at the first status of a worker the difference is unknown.
    if before is not None and before.epoch == worker.epoch and status.answered >= before.status.answered:
        base = before.status
    elif before is None and is_new:
        base = status
    else:
        base = InstanceStatus(variant=status.variant, state=InstanceState.INACTIVE)
    return InstanceSample(
        at=at,
        variant=status.variant,
        worker=worker.worker,
        state=status.state,
        queued=status.queued,
        batch_size=status.batch_size,
        batch_s=status.batch_s,
        slowdown=status.slowdown,
        answered=status.answered - base.answered,
        inputs=max(status.inputs - base.inputs, 0),
        late=max(status.late - base.late, 0),
        expired=max(status.expired - base.expired, 0),
    )


def _is_news(sample: InstanceSample, before: _Before) -> bool:
    return bool(sample.answered or sample.queued or before.status.queued or sample.state is not before.status.state)


def worker_samples(at: datetime, workers: Iterable[WorkerStatus], loads: Iterable[WorkerLoad]) -> list[WorkerSample]:
    """Return the samples of workers whose load is known."""
    busy = {load.worker: load.utilisation for load in loads}
    return [
        WorkerSample(
            at=at,
            worker=worker.worker,
            hardware=worker.hardware,
            slots=worker.slots,
            utilisation=busy[worker.worker],
            memory_used=worker.memory_used,
            memory_total=worker.memory_total,
            cpus=worker.cpus,
            cpu_busy=worker.cpu_busy,
        )
        for worker in workers
        if worker.worker in busy
    ]
