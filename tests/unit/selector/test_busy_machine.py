"""Tests of overload on a worker that is slower than its profile: accepted queries are answered in time."""

from collections import deque
from random import Random

import msgspec
import pytest

from schemas.status import PartitionStatus, WorkerStatus
from selector.policy.choice import PolicyConfig
from selector.policy.prediction import finish_s
from tests.unit.selector.story import FAST, NOW, instance, query, status, three
from tests.unit.selector.test_overload import MS, Flow, Simulation
from workers.serving.health import BatchMeter

NO_UPGRADES = PolicyConfig(upgrades=False)


class BusyMachine(Simulation):
    """Simulated worker whose batches take 0.7 to 1.3 times `slow` times the profiled time.

    Each query takes `beside_s` more, as decoding and encoding do. Statuses arrive 20 ms late.
    """

    def __init__(self, slow: float, beside_s: float) -> None:
        super().__init__(NO_UPGRADES)
        self.slow = slow
        self.beside_s = beside_s
        self.in_time = 0
        self._random = Random(1)
        self._meters = {name: BatchMeter() for name in MS}
        self._on_the_way = deque[tuple[float, WorkerStatus]]()

    @property
    def capacity(self) -> float:
        """Inputs per second of FAST in full batches."""
        return 1 / (self.slow * 2.75e-3 / 8 + self.beside_s)

    def work(self) -> None:
        while self._on_the_way and self._on_the_way[0][0] <= self.now:
            self.state.apply_status(self._on_the_way.popleft()[1], self.now)
        while self.free_at <= self.now and any(self.queues.values()):
            name = min((name for name, queue in self.queues.items() if queue), key=lambda name: self.queues[name][0])
            queue = self.queues[name]
            self.compute(name, [queue.popleft() for _ in range(min(8, len(queue)))])
        if not any(self.queues.values()):
            self.free_at = max(self.free_at, self.now)

    def compute(self, name: str, batch: list[tuple[float, float]]) -> None:
        deadlines = [deadline for _sent, deadline in batch if deadline >= self.free_at]
        if not deadlines:
            return
        profiled_s = MS[name] / 1e3 * (0.75 + len(deadlines) / 4)
        took_s = profiled_s * self.slow * self._random.uniform(0.7, 1.3)
        self.free_at += took_s + self.beside_s * len(deadlines)
        left = bool(self.queues[name])
        self._meters[name].computed(len(deadlines), took_s, profiled_s, self.free_at, left=left)
        self.in_time += sum(deadline >= self.free_at for deadline in deadlines)

    def speak(self) -> None:
        self.spoken_at = self.now
        said = [
            msgspec.structs.replace(
                instance(name, queued=len(queue), slowdown=max(meter.slowdown, 1.0)),
                partitions=(PartitionStatus(0, self.ends[name], self.ends[name]),),
                batch_size=meter.batch_size,
                batch_s=meter.batch_s,
                queue_slowdown=meter.queue_slowdown,
            )
            for (name, queue), meter in zip(self.queues.items(), self._meters.values(), strict=True)
        ]
        self._on_the_way.append((self.now + 0.02, status(*said, slots=1, at=self.now)))


@pytest.mark.parametrize(("slow", "beside_s"), [(1.0, 0.0), (2.0, 0.0), (1.0, 2e-4), (1.0, 4e-4), (2.0, 5e-4)])
@pytest.mark.parametrize("times", [2.0, 5.0])
@pytest.mark.parametrize("latency_ms", [100.0, 250.0])
def test_overload_on_slow_worker_uses_its_capacity(
    slow: float, beside_s: float, times: float, latency_ms: float
) -> None:
    seconds = 2.5
    found = BusyMachine(slow, beside_s)
    found.run([Flow(None, times * found.capacity, latency_ms)], seconds)
    assert found.in_time > 0.85 * found.capacity * seconds


def test_overload_on_slow_worker_serves_fair_share() -> None:
    found = BusyMachine(1.0, 4e-4)
    flood, small = Flow("flood", 5 * found.capacity), Flow("small", 0.1 * found.capacity)
    found.run([flood, small], 2.5)
    assert found.refused[small] <= 0.01 * found.asked[small]
    assert found.in_time > 0.85 * found.capacity * 2.5


def test_finish_prediction_scales_backlog_by_queue_slowdown() -> None:
    def finish(queued: int, queue_slowdown: float) -> float:
        where = three()
        where.apply_status(
            status(msgspec.structs.replace(instance(FAST, queued=queued), queue_slowdown=queue_slowdown)), NOW
        )
        return finish_s(where.workers["cpu-0"].instances[FAST], query().batch, NOW)

    idle = finish(0, 1.0)
    assert finish(0, 3.0) == idle
    assert finish(80, 1.0) - idle == pytest.approx(10 * 2.75e-3)
    assert finish(80, 3.0) - idle == pytest.approx(3 * 10 * 2.75e-3)
