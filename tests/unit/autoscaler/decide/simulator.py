"""Simulator of a cluster that applies each plan at once: workers start within a second."""

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoscaler.decide.decide import decide
from autoscaler.decide.plan import ScalePlan
from autoscaler.decide.snapshot import ClusterSnapshot, DecisionMemory, HardwareType, Policy, ScalingLimits
from schemas.rows.catalog import Profile
from schemas.rows.cluster import InstanceRow, Pin, WorkerRow
from tests.example_rows import a_worker
from tests.unit.autoscaler.decide.snapshots import cpus, load, ranking, registered

WINDOW_S = 10


class Simulator:
    """Simulated cluster; each step is one second."""

    def __init__(
        self,
        profiles: Sequence[Profile],
        *,
        hardware: HardwareType | None = None,
        workers: int = 1,
        limits: ScalingLimits | None = None,
        bounds: Sequence[Pin] = (),
    ) -> None:
        self.profiles = list(profiles)
        self.hardware = hardware or cpus()
        self.limits = limits or ScalingLimits(headroom=1.0)
        self.bounds = tuple(bounds)
        self.now_s = 0.0
        self.wanted = workers
        self.workers = {f"cpu-{n}": self.worker(f"cpu-{n}") for n in range(workers)}
        self.rows: dict[tuple[str, str], InstanceRow] = {}
        self.partitions: dict[str, int] = {}
        self.memory = DecisionMemory()
        self.window: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW_S))
        self.used_s: dict[str, float] = {}
        self.changes = list[str]()
        self.plan = ScalePlan()

    def worker(self, name: str) -> WorkerRow:
        kind = self.hardware
        return a_worker(name, slots=kind.slots, memory_bytes=kind.memory_bytes)

    def run(self, seconds: int, loads: Mapping[str, float], **rest: Any) -> "Simulator":
        for _ in range(seconds):
            self.step(loads, **rest)
        return self

    def step(self, loads: Mapping[str, float], **rest: Any) -> ScalePlan:
        """Simulate one second with these inputs/s by task: decide, and apply the plan."""
        self.now_s += 1
        for task in self.window.keys() | loads.keys():
            self.window[task].append(loads.get(task, 0.0))
            if loads.get(task):
                self.used_s |= {p.variant: self.now_s for p in self.profiles if p.variant.split("-")[0] == task}
        self.plan = self.decide(**rest)
        self.carry_out(self.plan)
        return self.plan

    def snapshot(self, **rest: Any) -> ClusterSnapshot:
        classes = tuple(
            load(task, sum(seen) / len(seen), peak_per_s=max(seen)) for task, seen in self.window.items() if sum(seen)
        )
        found: dict[str, Any] = {
            "workers": tuple(self.workers.values()),
            "instances": tuple(self.rows.values()),
            "idle_s": {name: self.now_s - at_s for name, at_s in self.used_s.items()},
            "observed_s": 100.0 + self.now_s,
            "classes": classes,
            "hardware": (self.hardware,),
            "wanted_workers": {"cpu": self.wanted},
            "bounds": self.bounds,
            "memory": self.memory,
        }
        return ClusterSnapshot(**(found | rest))

    def decide(self, **rest: Any) -> ScalePlan:
        targets = rest.pop("targets", None)
        snapshot = self.snapshot(**rest)
        variants = {
            name: msgspec.structs.replace(v, partitions=self.partitions.get(name, v.partitions))
            for name, v in registered(self.profiles).items()
        }
        policy = Policy.MILP if targets else Policy.GREEDY
        return decide(variants, ranking(self.profiles, snapshot), snapshot, self.limits, policy, targets)

    def carry_out(self, plan: ScalePlan) -> None:
        self.memory = plan.memory
        self.partitions |= plan.partitions
        for change in plan.changes:
            self.changes.append(change.action)
            if change.wanted is None:
                del self.rows[change.variant, change.worker]
            else:
                self.rows[change.variant, change.worker] = change.wanted
        for name in plan.drain:
            self.changes.append("drain")
            self.workers[name] = msgspec.structs.replace(self.workers[name], draining=True)
        self.wanted = next((change.count for change in plan.workers), self.wanted)
        self.reconcile()

    def reconcile(self) -> None:
        """Stop drained workers and start wanted ones, as the launcher would."""
        held = {worker for _, worker in self.rows}
        self.workers = {n: w for n, w in self.workers.items() if not w.draining or n in held}
        number = 0
        while sum(not worker.draining for worker in self.workers.values()) < self.wanted:
            if (name := f"cpu-{number}") not in self.workers:
                self.workers[name] = self.worker(name)
                self.changes.append("start")
            number += 1

    def replicas(self, name: str) -> int:
        return sum(variant.startswith(name) for variant, _ in self.rows)
