"""Many replicas of one variant, and selectors that share the load: real decisions, simulated workers.

Each worker computes one input at a time and publishes its backlog every 100 ms, each with an offset of its own. As in a
real system, selectors learn of each other's queries from statuses, and from the offsets in acknowledgements.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from random import Random
from typing import Final
from unittest.mock import patch

import msgspec

from bench.core.database import synthetic_profile, synthetic_variant
from schemas.latency import BatchLatency
from schemas.query import Needs, Query
from schemas.rows.catalog import Profile, Variant
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus
from selector.policy.choice import Choice, PolicyConfig
from selector.policy.cluster_state import ClusterState
from selector.policy.prediction import finish_s
from selector.policy.replicas import TaskShare
from selector.policy.selection import choose

TASK: Final = "crowd"
SERVICE_S: Final = 0.05
_NAMES: Final = ("cheap.onnx-fp32.cpu", "dear.onnx-fp32.cpu")
_STATUS_INTERVAL_S: Final = 0.1
_START_S: Final = 1_700_000_000.0


class Sent(msgspec.Struct, frozen=True):
    """Query that was sent to an instance."""

    predicted_s: float
    """Predicted seconds until its result, in the selector's view."""
    true_s: float
    """Actual seconds until its result."""
    best_s: float
    """Shortest predicted time of all instances at that moment; nan if it was not computed."""


class Crowd:
    """Workers, each with an instance of every variant, and selectors that know of them.

    Args:
        size: number of workers.
        selectors: number of selectors that share the queries.
        variants: number of variants that each worker has loaded; the first is the cheapest.
        seed: seed of all random choices.
    """

    def __init__(self, size: int, *, selectors: int = 1, variants: int = 1, seed: int = 0) -> None:
        self.now = _START_S
        self._draw = Random(seed)
        self._names = _NAMES[:variants]
        self._states = [ClusterState() for _ in range(selectors)]
        rows = [_registered(name, place) for place, name in enumerate(self._names)]
        for number, state in enumerate(self._states):
            state.register([TASK], [row for row, _ in rows], {profile.variant: profile for _, profile in rows})
            state.use_shares({TASK: TaskShare(frozenset({number}), selectors)})
        self._levels = [0.0] * size
        self._as_of = [self.now] * size
        self._ends = [0] * size
        self._due = [self.now + self._draw.random() * _STATUS_INTERVAL_S for _ in range(size)]
        self._ids = count()
        for worker in range(size):
            self._say(worker)

    @property
    def state(self) -> ClusterState:
        """State of the first selector."""
        return self._states[0]

    def fill(self, inputs: int) -> None:
        """Give each worker a backlog of `inputs` inputs, and publish it."""
        for worker in range(len(self._levels)):
            self._levels[worker], self._as_of[worker] = float(inputs), self.now
            self._say(worker)

    def query(self, latency_s: float = 1.0) -> Query:
        """Return a query that was sent just now."""
        sent_ms = self.now * 1e3
        return Query(
            id=f"q-{next(self._ids)}", task=TASK, reply_to="replies", sent_ms=sent_ms,
            deadline_ms=sent_ms + latency_s * 1e3, batch=1, needs=Needs(latency_ms=latency_s * 1e3),
        )  # fmt: skip

    def run(self, load: float, seconds: float, config: PolicyConfig, compare_every: int = 0) -> Iterator[Sent]:
        """Send queries for `seconds` at `load` times the workers' capacity; yields the queries that were sent."""
        rate, until = load * len(self._levels) / SERVICE_S, self.now + seconds
        for number in count(1):
            self.now += self._draw.expovariate(rate)
            if self.now >= until:
                return
            self._say_due(rate)
            state = self._states[number % len(self._states)]
            best_s = self._best_s(state) if compare_every and number % compare_every == 0 else float("nan")
            query = self.query()
            outcome = choose(query, state, self.now, config)
            if isinstance(outcome, Choice) and outcome.instance is not None:
                yield Sent(outcome.predicted_s, self._send(state, outcome, query.due_s), best_s)

    def _send(self, state: ClusterState, choice: Choice, due_s: float) -> float:
        worker = int(choice.partition.number)
        state.sent(choice.instance, choice.partition, 1, self.now, due_s)
        self._levels[worker], self._as_of[worker] = self._level(worker) + 1.0, self.now
        state.acknowledged(choice.instance, choice.partition, self._ends[worker], self.now)
        self._ends[worker] += 1
        return self._levels[worker] * SERVICE_S

    def _level(self, worker: int) -> float:
        return max(self._levels[worker] - (self.now - self._as_of[worker]) / SERVICE_S, 0.0)

    def _best_s(self, state: ClusterState) -> float:
        replicas = state.tasks[TASK].serving[self._names[0]]
        return min(finish_s(instance, 1, self.now) for instance in replicas)

    def _say_due(self, rate: float) -> None:
        """Publish statuses of random workers, so that each publishes about every 100 ms."""
        size = len(self._levels)
        expected = size / _STATUS_INTERVAL_S / rate
        for _ in range(int(expected) + (self._draw.random() < expected % 1)):
            self._say(self._draw.randrange(size))

    def _say(self, worker: int) -> None:
        held = round(self._level(worker))
        owned = (PartitionStatus(worker, self._ends[worker], self._ends[worker]),)
        status = WorkerStatus(
            worker=f"w{worker}", hardware="cpu", epoch=1, at_ms=self.now * 1e3, slots=1, price_per_hour=0.05,
            slot_backlogs_s=(held * SERVICE_S,), memory_used=0, memory_total=1 << 30,
            instances=tuple(
                InstanceStatus(
                    variant=name, state=InstanceState.ACTIVE, partitions=owned, queued=held if first else 0,
                    queued_inputs=held if first else 0, slowdown=1.0, max_batch=1,
                )
                for name, first in zip(self._names, (True, False), strict=False)
            ),
        )  # fmt: skip
        for state in self._states:
            state.apply_status(status, self.now)


@contextmanager
def full_walk() -> Generator[None]:
    """Let the policy evaluate all replicas within the block: the reference."""
    with patch("selector.policy.selection.FEW", 1 << 60):
        yield


def decision_us(crowd: Crowd, latency_s: float, config: PolicyConfig, wait_s: float, seconds: float = 0.2) -> float:
    """Return the mean microseconds of CPU of a decision in the crowd's current state."""
    queries = [crowd.query(latency_s) for _ in range(16)]
    decided, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for query in queries:
            choose(query, crowd.state, crowd.now, config, wait_s)
        decided += len(queries)
    return (time.process_time() - began) / decided * 1e6


def _registered(name: str, place: int) -> tuple[Variant, Profile]:
    compute_s = SERVICE_S * (1 + place)
    profile = synthetic_profile(name, [BatchLatency(1, compute_s, compute_s)], accuracy=0.9 + place / 100)
    return synthetic_variant(name, TASK, partitions=1), profile
