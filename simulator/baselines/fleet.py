"""Workers and replicas of a baseline, and the acts that change them.

Rules:
* An act takes effect at once: baselines have no delay from decision to worker. Starts and loads take their real time.
* Nothing is cut off: a replica that is to end gets no more queries and answers the ones it has. A worker stops once
  its last replica has ended.
* A worker that died starts again, with the replicas that it had.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import numpy as np

from schemas.names import worker_name
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.replica import Replica
from simulator.cluster.cluster import Cluster
from simulator.cluster.instance import SimulatedInstance
from simulator.cluster.worker import InstanceMaker, SimulatedWorker
from simulator.services.launcher import SimulatedLauncher
from simulator.system import ScaleChanges

_LOOK_S: Final = 0.1


class BaselineFleet:
    """Fleet of one simulation."""

    def __init__(self, cluster: Cluster, random: np.random.Generator, changes: ScaleChanges) -> None:
        self._cluster = cluster
        self._events = cluster.events
        self._changes = changes
        self.launcher = SimulatedLauncher(cluster, random, self._worker_started, self._worker_ended)
        self.replicas: defaultdict[str, list[Replica]] = defaultdict(list)
        """Replicas that may get queries, by variant."""
        self.hosted: dict[str, list[Replica]] = {}
        """All replicas of each worker, also retiring ones. Workers that start are among the keys."""
        self.leaving: set[str] = set()
        """Workers that are to stop."""
        self.utilisation: dict[str, float] = {}
        """Share of each worker's slots that computed between the last two ticks."""
        self._busy_s: dict[str, tuple[int, float]] = {}
        self.idle_since: dict[str, float] = {}
        """Time since which a worker has hosted nothing."""
        self.make: InstanceMaker = SimulatedInstance
        """Makes instances; a baseline with batching of its own sets another one."""
        self._numbers: defaultdict[str, set[int]] = defaultdict(set)
        """Partitions in use, by variant."""

    # -- workers -------------------------------------------------------------------------------------------------------

    def workers(self, hardware: str) -> list[str]:
        """Return the workers of a hardware type that are up or start and are not to stop."""
        listed = self.launcher.running()
        return [one.worker for one in listed if one.hardware == hardware and one.worker not in self.leaving]

    def add_running(self, hardware: str) -> str:
        """Add a worker that runs already; return its name."""
        name = self._new_worker(hardware)
        self.launcher.add_running(name, hardware)
        return name

    def start_worker(self, hardware: str, reason: str) -> str | None:
        """Start a worker; return its name, or None if the hardware has its maximum of workers."""
        if self._running(hardware) >= self._cluster.hardware[hardware].maximum:
            return None
        name = self._new_worker(hardware)
        self._log("start", hardware, name, reason)
        self.launcher.start(name, hardware)
        return name

    def stop_worker(self, name: str, reason: str) -> None:
        """Stop a worker once its replicas have answered all queries that they have."""
        if name not in self.leaving:
            hardware = next(one.hardware for one in self.launcher.running() if one.worker == name)
            self._log("stop", hardware, name, reason)
            self.leaving.add(name)
            for replica in list(self.hosted[name]):
                self.unload(replica, reason)
            self._stop_if_empty(name)

    def _running(self, hardware: str) -> int:
        return sum(one.hardware == hardware for one in self.launcher.running())

    def _new_worker(self, hardware: str) -> str:
        number = 0
        while (name := worker_name(hardware, number)) in self.hosted:
            number += 1
        self.hosted[name] = []
        self.idle_since[name] = self._events.now
        return name

    def _worker_started(self, worker: SimulatedWorker) -> None:
        for replica in self.hosted[worker.name]:
            self._begin(replica, worker)

    def _worker_ended(self, name: str) -> None:
        del self.hosted[name]
        self.leaving.discard(name)
        self.idle_since.pop(name, None)

    def _stop_if_empty(self, name: str) -> None:
        if name in self.leaving and not self.hosted[name]:
            self.launcher.stop(name)

    def worker_died(self, name: str) -> None:
        """Start the process of a worker again that has died."""
        for replica in self.hosted[name]:
            replica.instance = None
        self.launcher.restart(name)

    # -- replicas ------------------------------------------------------------------------------------------------------

    def all_replicas(self) -> Iterator[Replica]:
        """Yield the replicas that may get queries."""
        return (one for replicas in self.replicas.values() for one in replicas)

    def ready(self, name: str) -> list[Replica]:
        """Return the replicas of a variant that compute and may get queries."""
        return [one for one in self.replicas[name] if one.is_ready]

    def fits(self, profile: PricedProfile, worker: str) -> bool:
        """Return true if a worker has memory for a variant that it does not host."""
        hosted = self.hosted[worker]
        if any(one.profile is profile for one in hosted):
            return False
        return sum(one.profile.memory_bytes for one in hosted) + profile.memory_bytes <= profile.hardware.memory_bytes

    def load(self, profile: PricedProfile, worker: str, reason: str) -> Replica:
        """Load a variant on a worker on which it fits, as soon as the worker is up."""
        replica = self._add_replica(profile, worker)
        self._log("place", profile.name, worker, reason)
        up = self._cluster.workers.get(worker)
        if up is not None and up.alive:
            self._begin(replica, up)
        return replica

    def host(self, profile: PricedProfile, worker: str) -> Replica:
        """Add a replica that is loaded already on a worker that is up; for the start of a simulation."""
        replica = self._add_replica(profile, worker)
        up, partitions = self._cluster.workers[worker], (replica.log.number,)
        replica.instance = up.host(profile.variant, profile.max_batch, partitions, self.make)
        return replica

    def unload(self, replica: Replica, reason: str) -> None:
        """End a replica once it has answered all queries that it has."""
        if not replica.retiring:
            replica.retiring = True
            self.replicas[replica.profile.name].remove(replica)
            self._log("remove", replica.profile.name, replica.worker, reason)
            self._end_if_empty(replica)

    def _add_replica(self, profile: PricedProfile, worker: str) -> Replica:
        used = self._numbers[profile.name]
        number = next(number for number in range(len(used) + 1) if number not in used)
        used.add(number)
        profile.variant.grow(number + 1)
        replica = Replica(profile, worker, number)
        self.replicas[profile.name].append(replica)
        self.hosted[worker].append(replica)
        self.idle_since.pop(worker, None)
        return replica

    def _begin(self, replica: Replica, worker: SimulatedWorker) -> None:
        profile = replica.profile
        replica.instance = worker.begin_instance(profile.variant, profile.max_batch, self.make)
        replica.instance.follow((replica.log.number,), profile.max_batch)

    def _end_if_empty(self, replica: Replica) -> None:
        instance = replica.instance
        if not replica.queued and instance is not None and instance.wanted is not None:
            instance.follow(None, replica.profile.max_batch)
        worker = self._cluster.workers.get(replica.worker)
        if replica.queued or (worker is not None and worker.instances.get(replica.profile.name) is not None):
            self._events.after(_LOOK_S, self._end_if_empty, replica)
            return
        hosted = self.hosted[replica.worker]
        hosted.remove(replica)
        self._numbers[replica.profile.name].discard(replica.log.number)
        if not hosted:
            self.idle_since[replica.worker] = self._events.now
        self._stop_if_empty(replica.worker)

    # -- measurement ---------------------------------------------------------------------------------------------------

    def end_interval(self, seconds: float) -> None:
        """Measure rates and utilisation of an interval that ends now."""
        for replica in self.all_replicas():
            replica.end_interval(seconds)
        now, busy_s = self._events.now, dict[str, tuple[int, float]]()
        self.utilisation = {}
        for name, worker in self._cluster.workers.items():
            epoch, before_s = self._busy_s.get(name, (0, 0.0))
            busy_s[name] = worker.epoch, worker.schedule.busy_s(now)
            passed_s = busy_s[name][1] - (before_s if epoch == worker.epoch else 0.0)
            self.utilisation[name] = passed_s / (seconds * worker.hardware.slots)
        self._busy_s = busy_s

    def _log(self, action: str, name: str, worker: str, reason: str) -> None:
        self._changes.append((self._events.now, action, name, worker, reason))
