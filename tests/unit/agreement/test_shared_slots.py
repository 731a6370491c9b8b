"""Tests of `finish_s` while several variants share a simulated worker's slots."""

import heapq
import random
from collections import deque
from math import inf
from statistics import median, quantiles
from typing import NamedTuple

import msgspec
import pytest

from schemas.latency import BatchLatency
from schemas.rows.catalog import Profile
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import finish_s
from tests.unit.selector.story import NOW, TASK, profile, status, variant
from workers.slots.batch_queue import WaitingBatches, slot_backlogs_s

HOP_S = 0.001
STATUS_S = 0.1
SECONDS = 20.0
MS = {"a.onnx-fp32.cpu": 16.0, "b.onnx-fp32.cpu": 31.0, "c.onnx-fp32.cpu": 8.0, "d.onnx-fp32.cpu": 21.0}


class Asked(NamedTuple):
    name: str
    sent_at: float
    predicted_s: float


class SimulatedWorker:
    """Simulated worker with two slots and one queue; a batch takes 0.9 to 1.1 times the profiled time."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.draw = random.Random(1)
        self.queue: deque[Asked] = deque()
        self.ends: dict[Asked, float] = {}
        self.sent = dict.fromkeys(names, 0)
        self.arrived = dict.fromkeys(names, 0)

    def begin(self, now: float) -> list[Asked]:
        begun: list[Asked] = []
        while self.queue and len(self.ends) < 2:
            begun.append(self.queue.popleft())
            self.ends[begun[-1]] = now + MS[begun[-1].name] / 1e3 * self.draw.uniform(0.9, 1.1)
        return begun

    def done(self, asked: Asked, now: float) -> float:
        return max(1 - (self.ends[asked] - now) / (MS[asked.name] / 1e3), 0.0)

    def status(self, now: float) -> WorkerStatus:
        held = {name: sum(asked.name == name for asked in (*self.queue, *self.ends)) for name in self.names}
        instances = [
            InstanceStatus(
                variant=name, state=InstanceState.ACTIVE, queued=held[name], queued_inputs=held[name], parallel=2,
                done_inputs=sum(self.done(asked, now) for asked in self.ends if asked.name == name),
                partitions=(PartitionStatus(0, self.arrived[name], self.arrived[name]),),
            )
            for name in self.names
        ]  # fmt: skip
        left_s = [end - now for end in self.ends.values()] + [0.0] * (2 - len(self.ends))
        backlogs_s = slot_backlogs_s(left_s, (WaitingBatches(MS[asked.name] / 1e3, 1, 1) for asked in self.queue))
        return status(*instances, at=now, slots=2, backlogs_s=backlogs_s)


def simulate(names: list[str]) -> list[tuple[float, float]]:
    """Run one client for each variant, with one query at a time; return actual and predicted times of the queries."""
    worker, state = SimulatedWorker(names), ClusterState(hop_s=2 * HOP_S)
    state.register([TASK], [variant(name) for name in names], {name: _profile(name) for name in names})
    state.apply_status(worker.status(NOW), NOW)
    answered: list[tuple[float, float]] = []
    events: list[tuple[float, int, str, Asked | WorkerStatus | None]] = [(NOW, 0, "say", None)]
    events += [(NOW, number, "send", Asked(name, NOW, 0.0)) for number, name in enumerate(names, 1)]
    number = len(events)
    while events:
        now, _, what, asked = heapq.heappop(events)
        later: list[tuple[float, str, Asked | WorkerStatus | None]] = []
        if asked is None:
            later += [(now + HOP_S, "hear", worker.status(now)), (now + STATUS_S, "say", None)]
        elif isinstance(asked, WorkerStatus):
            state.apply_status(asked, now)
        elif what == "send":
            instance = _instance(state, asked.name)
            later.append((now + HOP_S, "arrive", Asked(asked.name, now, finish_s(instance, 1, now))))
            state.sent(instance, instance.partitions[0], 1, now, inf)
            state.acknowledged(instance, instance.partitions[0], worker.sent[asked.name], now)
            worker.sent[asked.name] += 1
        elif what == "arrive":
            worker.arrived[asked.name] += 1
            worker.queue.append(asked)
        else:
            del worker.ends[asked]
            answered.append((now + HOP_S - asked.sent_at, asked.predicted_s))
            later.append((now + 2 * HOP_S, "send", asked))
        later += [(worker.ends[begun], "end", begun) for begun in worker.begin(now)]
        for at, follows, of in later:
            if at < NOW + SECONDS:
                number += 1
                heapq.heappush(events, (at, number, follows, of))
    return answered


def _profile(name: str) -> Profile:
    return msgspec.structs.replace(profile(name), latency=(BatchLatency(1, MS[name] / 1e3, MS[name] / 1e3),))


def _instance(state: ClusterState, name: str) -> Instance:
    return state.workers["cpu-0"].instances[name]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_finish_prediction_accurate_for_shared_slots(count: int) -> None:
    answered = simulate(list(MS)[:count])
    errors = [abs(took_s / predicted_s - 1) for took_s, predicted_s in answered]
    assert len(errors) > SECONDS / 0.06
    assert median(errors) < 0.1
    assert quantiles(errors, n=20)[-1] < 0.25
