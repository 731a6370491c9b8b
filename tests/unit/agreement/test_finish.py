"""Tests of `finish_s` against a simulated worker whose instance fills one or several slots."""

import heapq
import random
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import msgspec
import pytest

from schemas.latency import BatchLatency, LatencyModel
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.cluster_state import ClusterState
from selector.policy.prediction import finish_s
from tests.unit.selector.story import NOW, TASK, profile, status, variant
from workers.serving.health import BatchMeter
from workers.slots.batch_queue import NO_DEADLINE, BatchQueue

NAME = "minilm.onnx-fp32.cpu"
LATENCY = tuple(BatchLatency(b, ms / 1e3, ms / 1e3) for b, ms in ((1, 6.5), (2, 11.2), (4, 19.7), (8, 38.4)))
RATE = 8 / 0.0384
"""Inputs per second that one slot computes."""
HOP_S = 0.002
STATUS_S = 0.1
SECONDS = 20.0


@dataclass(eq=False)
class Waiting:
    sent_at: float
    predicted_s: float
    inputs: int = 1
    shape: Hashable = ""
    extra_s: float = 0.0
    deadline_s: float = NO_DEADLINE
    offline: bool = False
    allow_late: bool = False


class Answered(NamedTuple):
    predicted_s: float
    took_s: float


class SimulatedWorker:
    """Simulated worker with one instance that fills all its slots."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.free = list(range(slots))
        self.computing = 0
        self.arrived = 0
        self.model = LatencyModel(LATENCY, 8)
        self.queue: BatchQueue[Waiting] = BatchQueue(self.model)
        self.meter = BatchMeter()

    def begin(self, now: float) -> Iterator[tuple[float, int, list[Waiting]]]:
        """Fill the free slots; yield the end of each batch, its slot, and the batch."""
        while self.free and (batch := self.queue.next_batch(now, 1.0, len(self.free)).batch):
            slot = self.free.pop()
            self.computing += len(batch)
            yield now + self.model.batch_s(len(batch)), slot, batch

    def end(self, batch: list[Waiting], slot: int, now: float) -> None:
        self.free.append(slot)
        self.computing -= len(batch)
        took_s = self.model.batch_s(len(batch))
        self.meter.computed(len(batch), took_s, took_s, now, left=self.queue.online_inputs > 0, slot=slot)

    def status(self, now: float) -> WorkerStatus:
        held = self.queue.online_inputs + self.computing
        owned = (PartitionStatus(0, self.arrived, self.arrived),)
        instance = InstanceStatus(
            variant=NAME, state=InstanceState.ACTIVE, partitions=owned, queued=held, queued_inputs=held, max_batch=8,
            parallel=self.slots, batch_size=self.meter.batch_size, batch_s=self.meter.batch_s,
            queue_slowdown=self.meter.queue_slowdown,
        )  # fmt: skip
        return status(instance, at=now, slots=self.slots, backlog_s=self.model.batch_s(held))


def simulate(slots: int, load: float) -> list[Answered]:
    """Send queries at a share `load` of the capacity; return the predicted and the actual time of each."""
    draw, worker, state = random.Random(slots), SimulatedWorker(slots), ClusterState(hop_s=2 * HOP_S)
    known = msgspec.structs.replace(profile(NAME), latency=LATENCY)
    state.register([TASK], [variant(NAME)], {NAME: known})
    state.apply_status(worker.status(NOW), NOW)
    instance = state.workers["cpu-0"].instances[NAME]
    answered: list[Answered] = []
    events: list[tuple[float, int, str, list[Waiting], int]] = [(NOW, 0, "send", [], 0), (NOW, 1, "say", [], 0)]
    number = 1
    while events:
        now, _, what, batch, slot = heapq.heappop(events)
        later: list[tuple[float, str, list[Waiting], int]] = []
        if what == "send":
            later.append((now + HOP_S, "arrive", [Waiting(now, finish_s(instance, 1, now))], 0))
            state.sent(instance, instance.partitions[0], 1, now, NO_DEADLINE)
            later.append((now + draw.expovariate(load * slots * RATE), "send", [], 0))
        elif what == "arrive":
            state.acknowledged(instance, instance.partitions[0], worker.arrived, now)
            worker.arrived += 1
            worker.queue.add(batch[0])
        elif what == "end":
            worker.end(batch, slot, now)
            answered += [Answered(query.predicted_s, now + HOP_S - query.sent_at) for query in batch]
        else:
            state.apply_status(worker.status(now), now)
            later.append((now + STATUS_S, "say", [], 0))
        later += [(at, "end", begun, slot) for at, slot, begun in worker.begin(now)]
        for at, follows, batch_of, of_slot in later:
            if follows not in ("send", "say") or at < NOW + SECONDS:
                number += 1
                heapq.heappush(events, (at, number, follows, batch_of, of_slot))
    return answered


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_finish_prediction_median_error_below_one_third(slots: int, load: float) -> None:
    answered = simulate(slots, load)
    assert len(answered) > 0.9 * load * slots * RATE * SECONDS
    assert median(abs(one.predicted_s - one.took_s) / one.took_s for one in answered) < 1 / 3
    mean_took_s = sum(one.took_s for one in answered) / len(answered)
    mean_predicted_s = sum(one.predicted_s for one in answered) / len(answered)
    assert 2 / 3 < mean_predicted_s / mean_took_s < 3 / 2
