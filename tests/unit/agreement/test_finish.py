"""Tests of `finish_s` against simulated workers: an instance in several slots, and variants that share two slots."""

import heapq
import random
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from math import inf
from statistics import median, quantiles
from typing import Protocol

import msgspec
import pytest

from schemas.latency import BatchLatency, LatencyModel
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.cluster_state import ClusterState
from selector.policy.prediction import finish_s
from tests.unit.selector.story import NOW, TASK, profile, status, variant
from workers.serving.health import BatchMeter
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue, WaitingBatches, slot_backlogs_s

STATUS_S, SECONDS = 0.1, 20.0
MS = {"a.onnx-fp32.cpu": 16.0, "b.onnx-fp32.cpu": 31.0, "c.onnx-fp32.cpu": 8.0, "d.onnx-fp32.cpu": 21.0}


@dataclass(eq=False)
class Asked:
    """A query as `BatchQueue` holds it."""

    name: str
    sent_at: float = NOW
    predicted_s: float = 0.0
    took_s: float = 0.0
    inputs: int = 1
    shape: Hashable = ""
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


@dataclass(eq=False)
class Batch:
    queries: list[Asked]
    end_at: float
    slot: int = 0


class SimulatedWorker(Protocol):
    hop_s: float
    """Time of a query to the worker; `status_delay_s` is that of a status to the selector."""
    status_delay_s: float

    def latencies(self) -> dict[str, tuple[BatchLatency, ...]]: ...
    def add(self, asked: Asked) -> None: ...
    def begin(self, now: float) -> list[Batch]: ...
    def end(self, batch: Batch, now: float) -> None: ...
    def status(self, now: float, arrived: dict[str, int]) -> WorkerStatus: ...


class WideWorker:
    """Worker with one instance that fills all its slots."""

    hop_s = 0.002
    status_delay_s = 0.0
    NAME = "minilm.onnx-fp32.cpu"
    LATENCY = tuple(BatchLatency(b, ms / 1e3, ms / 1e3) for b, ms in ((1, 6.5), (2, 11.2), (4, 19.7), (8, 38.4)))
    SLOT_RATE = 8 / 0.0384
    """Inputs per second that one slot computes."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.free = list(range(slots))
        self.computing = 0
        self.model = LatencyModel(self.LATENCY, 8)
        self.queue: BatchQueue[Asked] = BatchQueue(self.model)
        self.meter = BatchMeter()

    def latencies(self) -> dict[str, tuple[BatchLatency, ...]]:
        return {self.NAME: self.LATENCY}

    def add(self, asked: Asked) -> None:
        self.queue.add(asked)

    def begin(self, now: float) -> list[Batch]:
        begun: list[Batch] = []
        while self.free and (queries := self.queue.next_batch(now, 1.0, len(self.free)).batch):
            self.computing += len(queries)
            begun.append(Batch(queries, now + self.model.batch_s(len(queries)), self.free.pop()))
        return begun

    def end(self, batch: Batch, now: float) -> None:
        self.free.append(batch.slot)
        size = len(batch.queries)
        self.computing -= size
        took_s = self.model.batch_s(size)
        self.meter.computed(size, took_s, took_s, now, left=self.queue.online_inputs > 0, slot=batch.slot)

    def status(self, now: float, arrived: dict[str, int]) -> WorkerStatus:
        held, read = self.queue.online_inputs + self.computing, arrived[self.NAME]
        instance = InstanceStatus(
            variant=self.NAME, state=InstanceState.ACTIVE, partitions=(PartitionStatus(0, read, read),),
            queued=held, queued_inputs=held, max_batch=8, parallel=self.slots, batch_size=self.meter.batch_size,
            batch_s=self.meter.batch_s, queue_slowdown=self.meter.queue_slowdown,
        )  # fmt: skip
        return status(instance, at=now, slots=self.slots, backlog_s=self.model.batch_s(held))


class SharedWorker:
    """Worker with two slots and one queue for all variants; a batch takes 0.9 to 1.1 times the profiled time."""

    hop_s = 0.001
    status_delay_s = 0.001

    def __init__(self, variants: int) -> None:
        self.seconds = {name: ms / 1e3 for name, ms in list(MS.items())[:variants]}
        self.draw = random.Random(1)
        self.queue: deque[Asked] = deque()
        self.ends: dict[Asked, float] = {}

    def latencies(self) -> dict[str, tuple[BatchLatency, ...]]:
        return {name: (BatchLatency(1, seconds, seconds),) for name, seconds in self.seconds.items()}

    def add(self, asked: Asked) -> None:
        self.queue.append(asked)

    def begin(self, now: float) -> list[Batch]:
        begun: list[Batch] = []
        while self.queue and len(self.ends) < 2:
            asked = self.queue.popleft()
            self.ends[asked] = now + self.seconds[asked.name] * self.draw.uniform(0.9, 1.1)
            begun.append(Batch([asked], self.ends[asked]))
        return begun

    def end(self, batch: Batch, now: float) -> None:
        del self.ends[batch.queries[0]]

    def status(self, now: float, arrived: dict[str, int]) -> WorkerStatus:
        def done(asked: Asked) -> float:
            return max(1 - (self.ends[asked] - now) / self.seconds[asked.name], 0.0)

        held = {name: sum(asked.name == name for asked in (*self.queue, *self.ends)) for name in self.seconds}
        instances = [
            InstanceStatus(
                variant=name, state=InstanceState.ACTIVE, queued=held[name], queued_inputs=held[name], parallel=2,
                done_inputs=sum(done(asked) for asked in self.ends if asked.name == name),
                partitions=(PartitionStatus(0, arrived[name], arrived[name]),),
            )
            for name in self.seconds
        ]  # fmt: skip
        left_s = [end - now for end in self.ends.values()] + [0.0] * (2 - len(self.ends))
        waiting = (WaitingBatches(self.seconds[asked.name], 1, 1) for asked in self.queue)
        return status(*instances, at=now, slots=2, backlogs_s=slot_backlogs_s(left_s, waiting))


def simulate(worker: SimulatedWorker, sends: Iterable[tuple[float, str]], *, again: bool = False) -> list[Asked]:
    """Send queries at these times; return those answered, with their predicted and actual times.

    Args:
        worker: worker that computes them.
        sends: times and variants of the queries.
        again: send each query once more when it is answered.
    """
    state = ClusterState(hop_s=2 * worker.hop_s)
    profiles = {n: msgspec.structs.replace(profile(n), latency=latency) for n, latency in worker.latencies().items()}
    state.register([TASK], [variant(name) for name in profiles], profiles)
    arrived = dict.fromkeys(profiles, 0)
    sent = dict.fromkeys(profiles, 0)
    state.apply_status(worker.status(NOW, arrived), NOW)
    answered: list[Asked] = []
    events: list[tuple[float, int, str, Asked | Batch | WorkerStatus | None]] = [(NOW, 0, "say", None)]
    events += [(at, number, "send", Asked(name)) for number, (at, name) in enumerate(sends, 1)]
    heapq.heapify(events)
    number = len(events)
    while events:
        now, _, what, subject = heapq.heappop(events)
        later: list[tuple[float, str, Asked | Batch | WorkerStatus | None]] = []
        if what == "send" and isinstance(subject, Asked):
            instance = state.workers["cpu-0"].instances[subject.name]
            asked = Asked(subject.name, now, finish_s(instance, 1, now))
            later.append((now + worker.hop_s, "arrive", asked))
            state.sent(instance, instance.partitions[0], 1, now, inf)
            state.acknowledged(instance, instance.partitions[0], sent[asked.name], now)
            sent[asked.name] += 1
        elif isinstance(subject, Asked):
            arrived[subject.name] += 1
            worker.add(subject)
        elif isinstance(subject, Batch):
            worker.end(subject, now)
            for asked in subject.queries:
                asked.took_s = now + worker.hop_s - asked.sent_at
                later += [(now + 2 * worker.hop_s, "send", asked)] if again else []
            answered += subject.queries
        elif isinstance(subject, WorkerStatus):
            state.apply_status(subject, now)
        else:
            later.append((now + worker.status_delay_s, "hear", worker.status(now, arrived)))
            later.append((now + STATUS_S, "say", None))
        later += [(batch.end_at, "end", batch) for batch in worker.begin(now)]
        for at, follows, of in later:
            if at < NOW + SECONDS:
                number += 1
                heapq.heappush(events, (at, number, follows, of))
    return answered


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_finish_prediction_median_error_below_one_third(slots: int, load: float) -> None:
    draw, at, sends = random.Random(slots), NOW, list[tuple[float, str]]()
    rate = load * slots * WideWorker.SLOT_RATE
    while at < NOW + SECONDS:
        sends.append((at, WideWorker.NAME))
        at += draw.expovariate(rate)
    answered = simulate(WideWorker(slots), sends)
    assert len(answered) > 0.9 * rate * SECONDS
    assert median(abs(one.predicted_s - one.took_s) / one.took_s for one in answered) < 1 / 3
    assert 2 / 3 < sum(one.predicted_s for one in answered) / sum(one.took_s for one in answered) < 3 / 2


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_finish_prediction_accurate_for_shared_slots(count: int) -> None:
    """Each variant has a client with one query at a time."""
    worker = SharedWorker(count)
    answered = simulate(worker, [(NOW, name) for name in worker.seconds], again=True)
    errors = [abs(one.took_s / one.predicted_s - 1) for one in answered]
    assert len(errors) > SECONDS / 0.06
    assert median(errors) < 0.1
    assert quantiles(errors, n=20)[-1] < 0.25
