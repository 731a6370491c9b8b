"""Tests of instance samples: counters become differences, and an idle instance is reported once a minute."""

from datetime import UTC, datetime, timedelta

import msgspec

from autoscaler.decide.snapshot import WorkerLoad
from autoscaler.record.instance_samples import InstanceSampler, worker_samples
from schemas.status import InstanceState, InstanceStatus, WorkerStatus

AT = datetime(2026, 1, 1, tzinfo=UTC)


def a_worker(
    answered: int = 0, queued: int = 0, state: InstanceState = InstanceState.ACTIVE, epoch: int = 1
) -> WorkerStatus:
    instance = InstanceStatus(
        variant="v", state=state, queued=queued, answered=answered, inputs=2 * answered, late=answered // 2
    )
    return WorkerStatus(
        worker="cpu-0", hardware="cpu", epoch=epoch, at_ms=0, slots=2, price_per_hour=0, memory_used=5,
        memory_total=9, instances=(instance,),
    )  # fmt: skip


def told(sampler: InstanceSampler, second: int, worker: WorkerStatus) -> list[tuple[int, int, int]]:
    samples = sampler.samples(AT + timedelta(seconds=second), [worker])
    return [(sample.answered, sample.inputs, sample.late) for sample in samples]


def test_instance_sampler_returns_differences() -> None:
    sampler = InstanceSampler()
    assert told(sampler, 0, a_worker(100)) == [(0, 0, 0)], "what was before we looked is not ours to tell"
    assert told(sampler, 1, a_worker(110)) == [(10, 20, 5)]
    assert told(sampler, 2, a_worker(4, epoch=2)) == [(4, 8, 2)], "a later life counts from zero"
    assert told(sampler, 3, a_worker(1, epoch=2)) == [(1, 2, 0)], "so does one that was loaded again"


def test_instance_sampler_counts_first_answers_of_instance_on_known_worker() -> None:
    sampler = InstanceSampler()
    assert sampler.samples(AT, [msgspec.structs.replace(a_worker(), instances=())]) == []
    assert told(sampler, 1, a_worker(6)) == [(6, 12, 3)], "it was loaded and answered between two readings"


def test_instance_sampler_reports_idle_once_a_minute() -> None:
    sampler = InstanceSampler()
    assert len(told(sampler, 0, a_worker(5))) == 1
    assert told(sampler, 1, a_worker(5)) == []
    assert len(told(sampler, 2, a_worker(5, queued=1))) == 1
    assert len(told(sampler, 3, a_worker(5))) == 1, "its queue is empty again"
    assert told(sampler, 62, a_worker(5)) == []
    assert len(told(sampler, 63, a_worker(5))) == 1
    assert len(told(sampler, 64, a_worker(5, state=InstanceState.DRAINING))) == 1
    assert sampler.samples(AT, []) == []
    assert len(told(sampler, 65, a_worker(5, state=InstanceState.DRAINING))) == 1, "it was gone"


def test_worker_samples_skip_unknown_load() -> None:
    assert worker_samples(AT, [a_worker()], []) == []
    (sample,) = worker_samples(AT, [a_worker()], [WorkerLoad(worker="cpu-0", utilisation=0.5, memory_used=5)])
    assert (sample.utilisation, sample.memory_used, sample.memory_total, sample.slots) == (0.5, 5, 9, 2)
