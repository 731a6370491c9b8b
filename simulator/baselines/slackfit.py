"""SlackFit on supernets: each worker holds all variants of a task, and each batch chooses one.

Source: Khare et al., "SuperServe: Fine-Grained Inference Serving for Unpredictable Workloads", NSDI'25: one queue for
all workers, earliest deadline first; SlackFit (`supernet`).

Choices in favour of it: each task has a supernet, whatever its architectures; its memory and load time are those of the
most accurate variant; a worker with a free slot takes a batch without a further hop. The task's supernet is on the
hardware on which its most accurate variant is cheapest; a worker that cannot hold all supernets gets the rarest. The
paper's workers are fixed; here they are also scaled, by our 80 % rule.
"""

from math import ceil
from typing import Final

from schemas.errors import RefusalReason
from simulator.baselines.base import IDLE_S, UTILISATION, BaselineSystem
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.supernet import SupernetInstance, SupernetQueue
from simulator.cluster.instance import InstanceHost
from simulator.cluster.query import SimulatedQuery
from simulator.cluster.variant import SimulatedVariant
from simulator.durations import draws
from simulator.system import SimulationContext

_EVEN: Final = 1e-6


class SlackFitSystem(BaselineSystem):
    """SuperServe with SlackFit."""

    def __init__(self, context: SimulationContext, *, scaled: bool = True) -> None:
        """Make the system; without `scaled` it has all workers that its hardware may have."""
        super().__init__(context)
        self._scaled = scaled
        self._to_worker = draws(context.scenario.delays.to_worker, self.random)
        found = ((task, self._supernet_of(task)) for task in sorted({k.task for k in self.scenario.trace.kinds}))
        self._supernets = {task: supernet for task, supernet in found if supernet is not None}
        """Most accurate subnet of each task, whose memory and load time the supernet has."""
        self._queues = {
            task: SupernetQueue(self._subnets(supernet), self.chosen) for task, supernet in self._supernets.items()
        }
        self._hardware = sorted({one.hardware.name for one in self._supernets.values()})
        self.fleet.make = self._make_instance
        self._fewer_since: dict[str, float] = {}
        """Time since which fewer workers would do, by hardware."""

    def _supernet_of(self, task: str) -> PricedProfile | None:
        best = max((one.accuracy for one in self.profiles.of_task(task)), default=0.0)
        found = [one for one in self.profiles.of_task(task) if one.accuracy >= best - _EVEN]
        return min(found, key=lambda one: (_usd_per_input(one), one.name), default=None)

    def _subnets(self, supernet: PricedProfile) -> list[PricedProfile]:
        """Return the variants that the supernet's instance can compute: of its hardware and width."""
        same = (one for one in self.profiles.of_task(supernet.task) if one.hardware is supernet.hardware)
        return [one for one in same if one.width == supernet.width]

    def _make_instance(self, variant: SimulatedVariant, worker: InstanceHost, _max_batch: int) -> SupernetInstance:
        return SupernetInstance(variant, worker, self._queues[variant.row.task])

    # -- queries -------------------------------------------------------------------------------------------------------

    def dispatch(self, query: SimulatedQuery) -> None:
        """Send a query to the queue of its task."""
        if self._queues[query.query.task].serves(query):
            self.events.after(next(self._to_worker), self._enqueue, query)
        else:
            self.refuse(query, RefusalReason.NEEDS_UNSATISFIABLE)

    def _enqueue(self, query: SimulatedQuery) -> None:
        queue = self._queues[query.query.task]
        queue.add(query)
        self._wake(query.query.task)

    def _wake(self, task: str) -> None:
        """Let a worker with a free slot take a batch."""
        for replica in self.fleet.replicas[self._supernets[task].name]:
            if replica.is_ready and replica.instance is not None and replica.instance.worker.schedule.has_free:
                replica.instance.worker.wake()
                if not len(self._queues[task]):
                    return

    def held(self) -> int:
        """Return the number of queries that wait in the queues."""
        return super().held() + sum(map(len, self._queues.values()))

    def worker_died(self, name: str) -> None:
        """Return the queries that a worker computed to their queue, and start its process again."""
        for replica in self.fleet.hosted[name]:
            if isinstance(replica.instance, SupernetInstance):
                for query in replica.instance.under_way.values():
                    self._queues[query.query.task].add(query)
        super().worker_died(name)

    # -- workers -------------------------------------------------------------------------------------------------------

    def begin_fleet(self) -> None:
        """Start the workers, with all supernets."""
        for hardware in self._hardware:
            most = self.cluster.hardware[hardware].maximum
            count = self.scenario.fleet.get(hardware, 1) if self._scaled else most
            while (there := len(self.fleet.workers(hardware))) < most and (there < count or self._lacking(hardware)):
                worker = self.fleet.add_running(hardware)
                while (supernet := self._next_for(worker, hardware)) is not None:
                    self.fleet.host(supernet, worker)

    def _next_for(self, worker: str, hardware: str) -> PricedProfile | None:
        """Return the supernet to load next on a worker: of all that fit, the one with the fewest replicas."""
        fitting = [one for one in self._supernets_on(hardware) if self.fleet.fits(one, worker)]
        return min(fitting, key=lambda one: (len(self.fleet.replicas[one.name]), one.name), default=None)

    def _lacking(self, hardware: str) -> bool:
        """Return true if a supernet has no replica."""
        return any(not self.fleet.replicas[one.name] for one in self._supernets_on(hardware))

    def _supernets_on(self, hardware: str) -> list[PricedProfile]:
        return [one for one in self._supernets.values() if one.hardware.name == hardware]

    def tick(self) -> None:
        """Scale the workers of each hardware to 80 % of utilisation."""
        if self._scaled:
            for hardware in self._hardware:
                self._scale(hardware)

    def _scale(self, hardware: str) -> None:
        names, now = self.fleet.workers(hardware), self.events.now
        used = sum(self.fleet.utilisation.get(name, 0.0) for name in names)
        wanted = max(ceil(used / UTILISATION - _EVEN), self.scenario.scaling.min_workers.get(hardware, 0), 1)
        for _ in range(wanted - len(names)):
            worker = self.fleet.start_worker(hardware, f"{used:.1f} workers are busy")
            while worker is not None and (supernet := self._next_for(worker, hardware)) is not None:
                self.fleet.load(supernet, worker, "new worker")
        since_s = self._fewer_since.setdefault(hardware, now)
        if wanted >= len(names):
            del self._fewer_since[hardware]
        elif now - since_s >= IDLE_S:
            del self._fewer_since[hardware]
            for name in sorted(names, key=lambda name: (name in self.cluster.workers, name))[: len(names) - wanted]:
                if all(len(self.fleet.replicas[one.profile.name]) > 1 for one in self.fleet.hosted[name]):
                    self.fleet.stop_worker(name, f"{used:.1f} workers are busy")


def _usd_per_input(profile: PricedProfile) -> float:
    return profile.hardware.price_per_hour * profile.share / profile.throughput(profile.latency.best_batch)
