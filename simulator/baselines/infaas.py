"""INFaaS as published: variants are selected by query, and scaled by a greedy heuristic for an integer program.

Source: Romero et al., "INFaaS: Automated Model-less Inference Serving", USENIX ATC'21, sections 4 and 5: algorithm 1
(selection), the states of figure 4, the model autoscaler (4.2) with its slack threshold of 1.05, and the rules of the
VM autoscaler (4.2.3).

Choices where the paper is silent:
* Of several active variants the cheapest answers. The load of a replica is its number of queries in this second.
* A replica is impaired, overloaded or interfered, if it computes slower than profiled, or while two of the largest
  batches that are in time wait for each slot; its peak is that of these batches. The paper's states are 2 s old.
* A query goes to an overloaded replica if it cannot wait for a load.
* Lambda, the weight of a second of loading, is 0.1 a second as in our autoscaler. A variant's memory costs its share of
  the worker's price.
* The last replica of an architecture stays for 60 s without queries. A scale-down counts on loaded replicas only.
* The autoscaler sees all workers of an architecture, not each worker alone.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from math import ceil
from typing import Final

from schemas.errors import RefusalReason
from schemas.status import InstanceState
from simulator.baselines.base import UTILISATION, BaselineSystem
from simulator.baselines.priced_profile import NO_LIMIT_S, PricedProfile, compute_limit_s
from simulator.baselines.replica import Replica
from simulator.cluster.query import SimulatedQuery
from simulator.system import SimulationContext

SLACK: Final = 1.05
"""Least ratio of the throughput of an architecture's replicas to its load."""
_LOAD_WEIGHT_PER_S: Final = 0.1
_KEEP_S: Final = 60.0


class _Needs:
    """Strictest needs of the queries that an architecture has answered in the last second with queries."""

    __slots__ = ("accuracy", "limit_s", "since_s")

    def __init__(self, now: float) -> None:
        self.limit_s, self.accuracy, self.since_s = NO_LIMIT_S, 0.0, now


class PublishedInfaasSystem(BaselineSystem):
    """INFaaS by its paper."""

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self._interfered: set[Replica] = set()
        self._needs: defaultdict[str, _Needs] = defaultdict(lambda: _Needs(0.0))
        """Needs by architecture."""
        self._surplus = Counter[Replica]()
        """Seconds for which the load has been sustainable without a replica."""
        self._ticks = 0

    # -- selection -----------------------------------------------------------------------------------------------------

    def dispatch(self, query: SimulatedQuery) -> None:
        """Select variant and worker by algorithm 1."""
        meeting = self.profiles.meeting(query.query)
        for profile in meeting:
            active = [one for one in self.fleet.replicas[profile.name] if self._is_active(one)]
            if active:
                self._answer(query, active)
                return
        impaired = [one for profile in meeting for one in self.fleet.ready(profile.name)]
        inactive = [one for one in meeting if not self.fleet.ready(one.name)]
        fastest = min(inactive or meeting, key=lambda one: one.load_s + one.latency.query_s(query.inputs))
        loading = self._load_inactive(fastest, must_start=not impaired)
        if loading and not (impaired and fastest.load_s > compute_limit_s(query.query)):
            self._answer(query, loading)
        elif impaired:
            self._answer(query, impaired)
        else:
            self.refuse(query, RefusalReason.NO_WORKER)

    def _load_inactive(self, profile: PricedProfile, *, must_start: bool) -> list[Replica]:
        """Load a variant that has no replica; return its replicas, none if it is active or there is no room."""
        if self.fleet.ready(profile.name):
            return []
        replicas = self.fleet.replicas[profile.name]
        if not replicas and (must_start or self.worker_with_room(profile) is not None):
            self.place(profile, "selected", limit=1.0 if must_start else UTILISATION)
        return replicas

    def _answer(self, query: SimulatedQuery, replicas: Sequence[Replica]) -> None:
        replica = min(replicas, key=lambda one: (one.arrived, one.queued))
        now, architecture = self.events.now, replica.profile.architecture
        needs = self._needs[architecture]
        if now - needs.since_s > self.interval_s:
            needs = self._needs[architecture] = _Needs(now)
        needs.limit_s = min(needs.limit_s, compute_limit_s(query.query))
        needs.accuracy = max(needs.accuracy, query.query.needs.min_accuracy or 0.0)
        self.send(query, replica)

    # -- model autoscaler ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Update states and scale models each second, workers each two seconds."""
        replicas = list(self.fleet.all_replicas())
        self._interfered = {one for one in replicas if self._is_interfered(one)}
        self._surplus = Counter({one: count for one, count in self._surplus.items() if not one.retiring})
        by_architecture = defaultdict[str, list[Replica]](list)
        for one in replicas:
            by_architecture[one.profile.architecture].append(one)
        for architecture, found in by_architecture.items():
            self._scale(architecture, found)
        self._mitigate(replicas)
        self._ticks += 1
        if self._ticks % 2 == 0:
            self._scale_workers(replicas)

    def _scale(self, architecture: str, replicas: list[Replica]) -> None:
        needed = SLACK * sum(one.inputs_per_s for one in replicas)
        missing = needed - sum(self._peak(one.profile) for one in replicas)
        if missing > 0:
            self._scale_up(architecture, missing)
        elif self._interfered.isdisjoint(replicas):
            self._scale_down(architecture, replicas, needed)

    def _peak(self, profile: PricedProfile) -> float:
        """Return the inputs a second of a replica in the largest batches that are in time."""
        return profile.throughput(profile.in_time_batch(self._needs[profile.architecture].limit_s))

    def _is_overloaded(self, replica: Replica) -> bool:
        return replica.inputs_per_s >= self._peak(replica.profile)

    def _is_interfered(self, replica: Replica) -> bool:
        return replica.is_ready and not self._is_active(replica)

    def _is_active(self, replica: Replica) -> bool:
        """Return true unless it loads, is slower than profiled, or has two batches of queries for each slot."""
        profile, instance = replica.profile, replica.instance
        if instance is None or not replica.is_ready or instance.work.state is InstanceState.INTERFERED:
            return False
        batch = profile.in_time_batch(self._needs[profile.architecture].limit_s)
        return replica.queued < 2 * profile.parallel * batch

    def _added_usd(self, profile: PricedProfile, missing: float) -> float:
        """Return the objective of the integer program: the price of the added instances, and that of their loads."""
        return ceil(missing / self._peak(profile)) * _usd(profile) * (1.0 + _LOAD_WEIGHT_PER_S * profile.load_s)

    def _mitigate(self, replicas: Sequence[Replica]) -> None:
        """Load interfered variants on the least utilised worker, too (section 4.1)."""
        for one in replicas:
            if one in self._interfered and all(other.is_ready for other in self.fleet.replicas[one.profile.name]):
                worker = self.worker_with_room(one.profile)
                if worker is not None:
                    self.fleet.load(one.profile, worker, f"interfered on {one.worker}")

    def _options(self, architecture: str) -> list[PricedProfile]:
        """Return the variants of an architecture that meet the needs of its queries."""
        needs = self._needs[architecture]
        return [
            one
            for one in self.profiles.of_architecture(architecture)
            if one.accuracy >= needs.accuracy and one.latency.promised_s(1) <= needs.limit_s
        ]

    def _scale_up(self, architecture: str, missing: float) -> None:
        """Replicate or upgrade: add replicas of the variant whose cost and loads are cheapest and that fits."""
        options = sorted(self._options(architecture), key=lambda one: (self._added_usd(one, missing), one.name))
        for profile in options:
            count = ceil(missing / self._peak(profile))
            if self.worker_with_room(profile) is not None:
                for _ in range(count):
                    worker = self.worker_with_room(profile)
                    if worker is not None:
                        self.fleet.load(profile, worker, f"{missing:.0f} inputs/s are missing")
                return
        for profile in options[:1]:
            self.place(profile, "no worker has room")

    def _scale_down(self, architecture: str, replicas: list[Replica], needed: float) -> None:
        """Remove the dearest replica without which the load is sustainable, perhaps by a cheaper variant."""
        ready = sum(self._peak(one.profile) for one in replicas if one.is_ready)
        idle = self.events.now - self._needs[architecture].since_s > _KEEP_S
        for replica in sorted((one for one in replicas if one.is_ready), key=lambda one: -_usd(one.profile)):
            rest = ready - self._peak(replica.profile)
            smaller = None if rest >= needed else self._downgrade(architecture, replica, needed - rest)
            if not (idle or (rest > 0 and rest >= needed) or smaller is not None):
                self._surplus[replica] = 0
                continue
            self._surplus[replica] += 1
            if self._surplus[replica] > ceil(replica.profile.load_s):
                self._surplus[replica] = 0
                if smaller is None:
                    self.fleet.unload(replica, f"{needed:.0f} inputs/s are sustainable without it")
                else:
                    self.place(smaller, f"downgrade of {replica.profile.name}")
            return

    def _downgrade(self, architecture: str, replica: Replica, missing: float) -> PricedProfile | None:
        """Return the cheapest variant that could replace a replica for less; None: there is none, or one loads."""
        for profile in sorted(self._options(architecture), key=_usd):
            if _usd(profile) < _usd(replica.profile) and self._peak(profile) >= missing:
                is_cheaper = profile.hardware.price_per_hour < replica.profile.hardware.price_per_hour
                loads = any(not one.is_ready for one in self.fleet.replicas[profile.name])
                has_room = is_cheaper or self.worker_with_room(profile) is not None
                return profile if has_room and not loads else None
        return None

    # -- VM autoscaler -------------------------------------------------------------------------------------------------

    def _scale_workers(self, replicas: Sequence[Replica]) -> None:
        overloaded = {one.worker for one in replicas if self._is_overloaded(one)}
        interfered = {one.worker for one in replicas if one in self._interfered}
        for hardware in self.cluster.hardware:
            names = self.fleet.workers(hardware)
            if not names or any(name not in self.cluster.workers for name in names):
                continue
            busy = all(self.fleet.utilisation.get(name, 0.0) > UTILISATION for name in names)
            if busy or interfered.issuperset(names) or len(overloaded.intersection(names)) > UTILISATION * len(names):
                self.fleet.start_worker(hardware, "all workers are busy" if busy else "instances are impaired")
        self.stop_idle_workers()


def _usd(profile: PricedProfile) -> float:
    """Return the USD per hour of an instance's memory."""
    return profile.hardware.price_per_hour * profile.memory_bytes / profile.hardware.memory_bytes
