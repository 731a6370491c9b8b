"""INFaaS by its authors' public prototype, with its thresholds and its faults.

Source: github.com/stanford-mast/INFaaS: `queryfe_server.cc` (selection by use case, dispatch, mode 6 of its start
script), `query_executor.cc` (health bit), `autoscaler.cc` (mode 3) and `master_vm_daemon.cc` (workers).

Faults that are kept:
* The decision cache of 5 variants has no key. Only the first accuracy bin that is not empty is searched. The number of
  variants that are read is an int8. An unloaded variant scores by load and inference time, and competes by its largest
  batch.
* A downgrade unloads before the cheaper variant is loaded. Utilisation of an accelerator is its memory. Flags raised
  during the back-off are lost. CPU workers never stop.

Differences: the cache is searched for variants of the task only, since another task's answer would be wrong. A variant
runs once on a worker, with all slots, so replicas beyond the first go to other workers. Queries without a limit get the
10 s of its RPCs. Workers batch dynamically up to the variant's batch. A worker that stops first answers its queries.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import ceil
from typing import Final

from schemas.errors import RefusalReason
from simulator.baselines.base import UTILISATION, BaselineSystem
from simulator.baselines.health_bit import HealthBit
from simulator.baselines.individual import CPU_HEURISTIC, GPU_BATCH, down_after, replica_throughput
from simulator.baselines.priced_profile import PricedProfile
from simulator.baselines.replica import Replica
from simulator.cluster.query import SimulatedQuery
from simulator.system import SimulationContext

_BINS: Final = (0.0, 0.5, 0.7, 0.75, 0.78, 1.0)
_RPC_TIMEOUT_MS: Final = 10_000.0
_SLOW_MS: Final = 100.0
"""Limit above which CPU variants are preferred and faster variants are passed over in the cache."""
_UNLOADED_MS: Final = 1000.0
_CACHED: Final = 5
_LEAST_LOADED: Final = 3
_BUSY_QUERIES: Final = 200
"""Queries to a worker within a second that exclude it for `_EXCLUDED_S`."""
_EXCLUDED_S: Final = 2.0
_BACK_OFF: Final = 15
_LOAD_HEURISTIC: Final = 0.0002
_UPGRADE_GAIN: Final = 1.5


class PrototypeInfaasSystem(BaselineSystem):
    """INFaaS by its prototype."""

    def __init__(self, context: SimulationContext) -> None:
        super().__init__(context)
        self._cache: deque[PricedProfile] = deque(maxlen=_CACHED)
        self._ascending = {
            task: sorted(self.profiles.of_task(task), key=lambda one: (one.accuracy, one.name))
            for task in {kind.task for kind in context.scenario.trace.kinds}
        }
        """Variants by task, least accurate first."""
        self._unhealthy: dict[Replica, HealthBit] = {}
        self._excluded_until: dict[str, float] = {}
        self._sent = Counter[str]()
        """Queries by worker in this second."""
        self._last_cpu = ""
        self._surplus = Counter[str]()
        self._wants_gpu = False
        """The flag `vmscale`: accelerators are unhealthy."""
        self._ticks = self._back_off = self._calm = 0

    # -- selection -----------------------------------------------------------------------------------------------------

    def dispatch(self, query: SimulatedQuery) -> None:
        """Select variant and worker, or refuse."""
        limit_ms = query.query.needs.latency_ms or _RPC_TIMEOUT_MS
        found = self._cached(query, limit_ms) or self._searched(query, limit_ms)
        if found is None:
            self.refuse(query, RefusalReason.NEEDS_UNSATISFIABLE)
            return
        profile, is_running = found
        if profile in self._cache:
            self._cache.remove(profile)
        self._cache.appendleft(profile)
        replica = (self._running(profile) if is_running else None) or self._not_running(profile)
        if replica is None:
            self.refuse(query, RefusalReason.NO_WORKER)
            return
        self._sent[replica.worker] += 1
        if self._sent[replica.worker] >= _BUSY_QUERIES and len(self.cluster.workers) > 1:
            self._excluded_until[replica.worker] = self.events.now + _EXCLUDED_S
        self.send(query, replica)

    def _cached(self, query: SimulatedQuery, limit_ms: float) -> tuple[PricedProfile, bool] | None:
        for profile in self._cache:
            took_ms = _predicted_ms(profile, query.inputs)
            if not _fits(profile, query) or took_ms > limit_ms or (limit_ms > _SLOW_MS > took_ms):
                continue
            if self._is_healthy(profile):
                return profile, True
            if self._is_unhealthy(profile) and not profile.is_cpu:
                self._wants_gpu = True
                return profile, False
        return None

    def _searched(self, query: SimulatedQuery, limit_ms: float) -> tuple[PricedProfile, bool] | None:
        """Search the first accuracy bin; `is_running` of the result is true for a running, healthy variant."""
        running: list[tuple[float, PricedProfile]] = []
        others: list[tuple[float, PricedProfile]] = []
        best_cpu: list[tuple[float, PricedProfile]] = []
        smallest, is_cpu_unhealthy = 1 << 30, False
        for profile in self._first_bin(query, limit_ms):
            took_ms = _predicted_ms(profile, query.inputs)
            if not _fits(profile, query) or took_ms > limit_ms:
                continue
            cold_ms = _UNLOADED_MS + profile.load_s * 1e3 + took_ms
            if self._is_healthy(profile):
                running.append((limit_ms - took_ms, profile))
            elif self._is_unhealthy(profile):
                is_cpu_unhealthy |= profile.is_cpu
                if not profile.is_cpu:
                    self._wants_gpu = True
                    others.append((limit_ms - took_ms, profile))
            elif profile.max_batch < smallest:
                smallest = profile.max_batch
                others.append((cold_ms, profile))
            if profile.is_cpu:
                best_cpu.append((cold_ms, profile))
        if running:
            return _least(running), True
        if limit_ms > _SLOW_MS and best_cpu and not is_cpu_unhealthy:
            return _least(best_cpu), False
        return (_least(others), False) if others else None

    def _first_bin(self, query: SimulatedQuery, limit_ms: float) -> Sequence[PricedProfile]:
        """Return the variants that the prototype reads, least accurate first."""
        least = query.query.needs.min_accuracy or 0.0
        ascending = self._ascending.get(query.query.task, ())
        wanted = max(3, int(0.15 * limit_ms / 0.6))
        count = (wanted + 128) % 256 - 128  # an int8; Redis reads all for a negative number
        for low, high in pairwise(_BINS):
            inside = [one for one in ascending if (low < one.accuracy or not low) and one.accuracy <= high]
            if high >= least and inside:
                return inside[:count] if count >= 0 else inside
        return ()

    def _is_healthy(self, profile: PricedProfile) -> bool:
        ready = self.fleet.ready(profile.name)
        return any(one not in self._unhealthy or not self._unhealthy[one].is_set for one in ready)

    def _is_unhealthy(self, profile: PricedProfile) -> bool:
        return bool(self.fleet.ready(profile.name)) and not self._is_healthy(profile)

    # -- dispatch ------------------------------------------------------------------------------------------------------

    def _running(self, profile: PricedProfile) -> Replica | None:
        """Return one of the three replicas with the fewest queries a second, drawn; None: all are excluded."""
        least = sorted(self.fleet.ready(profile.name), key=lambda one: (one.queries_per_s, one.worker))[:_LEAST_LOADED]
        self.random.shuffle(least)
        return next((one for one in least if not self._is_excluded(one.worker)), None)

    def _not_running(self, profile: PricedProfile) -> Replica | None:
        """Return the replica of a worker with low utilisation; it is loaded there if the worker has none."""
        hosts = {one.worker: one for one in self.fleet.replicas[profile.name]}
        names = [name for name in self.fleet.workers(profile.hardware.name) if name in self.cluster.workers]
        names = [name for name in names if name in hosts or self.fleet.fits(profile, name)]
        names.sort(key=lambda name: (self._utilisation(name), name))
        if profile.is_cpu:
            worker = next((name for name in names if name != self._last_cpu), names[0] if names else None)
            self._last_cpu = worker or self._last_cpu
        else:
            worker = str(self.random.choice(names[:10])) if names else None
        if worker is None:
            if not self.fleet.workers(profile.hardware.name):
                self.fleet.start_worker(profile.hardware.name, "no worker")
            return None
        return hosts.get(worker) or self.fleet.load(profile, worker, "not running")

    def _is_excluded(self, worker: str) -> bool:
        return self._excluded_until.get(worker, 0.0) > self.events.now

    def _utilisation(self, name: str) -> float:
        """Return the utilisation as the prototype measures it: of memory on accelerators."""
        worker = self.cluster.workers[name]
        if worker.hardware.name == "cpu":
            return self.fleet.utilisation.get(name, 0.0)
        return worker.memory_used / worker.hardware.memory_bytes

    # -- model autoscaler ----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Update health and scale models each second, workers each two seconds."""
        self._sent.clear()
        replicas = list(self.fleet.all_replicas())
        bits = {one: self._unhealthy.get(one) or HealthBit() for one in replicas if one.is_ready}
        for replica, bit in bits.items():
            bit.update(replica)
        self._unhealthy = bits
        by_architecture = defaultdict[str, list[PricedProfile]](list)
        for profile in self.profiles.by_name.values():
            if self.fleet.replicas[profile.name]:
                by_architecture[profile.architecture].append(profile)
        for architecture, running in by_architecture.items():
            self._scale(architecture, running)
        self._ticks += 1
        if self._ticks % 2 == 0:
            self._scale_workers()

    def _scale(self, architecture: str, running: Sequence[PricedProfile]) -> None:
        """Choose between replicas of the running variants and the fastest variant, by the time of their loads."""
        missing = {one: self._missing(one) for one in running}
        added = {one: ceil(inputs / self._single(one)) for one, inputs in missing.items() if inputs > 0}
        fastest = self._fastest(architecture)
        needed = sum(one.inputs_per_s for one in self.fleet.replicas[fastest.name]) + sum(
            inputs for inputs in missing.values() if inputs > 0
        )
        current = len(self.fleet.replicas[fastest.name]) * self._single(fastest)
        upgrade = ceil((needed - current + _LOAD_HEURISTIC * fastest.load_s * 1e3) / self._single(fastest))
        cost = sum(one.load_s * count + self._excess_s(one, count) for one, count in added.items())
        if added and upgrade > 0 and cost > _UPGRADE_GAIN * fastest.load_s * upgrade:
            added = {fastest: upgrade}
        for profile, count in added.items():
            self._surplus[profile.name] = 0
            for _ in range(count):
                worker = self.worker_with_room(profile)
                if worker is not None:
                    self.fleet.load(profile, worker, f"autoscaler wants {count}")
        for profile in running:
            if profile not in added:
                self._scale_down(profile)

    def _missing(self, profile: PricedProfile) -> float:
        """Return the inputs a second by which a variant's load exceeds its throughput; negative: it has too much."""
        replicas = self.fleet.replicas[profile.name]
        needed, current = sum(one.inputs_per_s for one in replicas), len(replicas) * self._single(profile)
        if profile.is_cpu:
            return needed - (1.0 - CPU_HEURISTIC) * current
        return needed - current + _LOAD_HEURISTIC * current * profile.load_s * 1e3

    def _single(self, profile: PricedProfile) -> float:
        return replica_throughput(profile, self.fleet.replicas[profile.name])

    def _fastest(self, architecture: str) -> PricedProfile:
        found = self.profiles.of_architecture(architecture)
        return min(found, key=lambda one: (one.load_s + one.latency.batch_s(1), one.name))

    def _excess_s(self, profile: PricedProfile, count: int) -> float:
        """Return the penalty for more replicas than workers on which the variant fits."""
        fits = sum(self.fleet.fits(profile, name) for name in self.fleet.workers(profile.hardware.name))
        return 1000.0 * profile.load_s if count > fits else 0.0

    def _scale_down(self, profile: PricedProfile) -> None:
        """Unload one replica once enough seconds had one too many; an accelerator's last one if a CPU would do."""
        replicas = self.fleet.replicas[profile.name]
        needed = sum(one.inputs_per_s for one in replicas)
        same = self.profiles.of_architecture(profile.architecture)
        smaller = max((one.throughput(1) for one in same if one.is_cpu), default=0.0)
        is_downgrade = not profile.is_cpu and needed <= smaller
        if not (needed <= (len(replicas) - 1) * self._single(profile) or is_downgrade):
            return
        self._surplus[profile.name] += 1
        if self._surplus[profile.name] > down_after(profile):
            self._surplus[profile.name] = 0
            self.fleet.unload(min(replicas, key=lambda one: one.queued), f"{needed:.0f} inputs/s")

    # -- workers -------------------------------------------------------------------------------------------------------

    def _scale_workers(self) -> None:
        up = [name for name in self.cluster.workers if name not in self.fleet.leaving]
        for name in up:
            if self._utilisation(name) > UTILISATION:
                self._excluded_until[name] = self.events.now + _EXCLUDED_S
        if self._back_off:
            self._back_off -= 1
            self._wants_gpu = self._wants_gpu and self._back_off > 0
            return
        hardware = next((name for name in self.cluster.hardware if self._needs_worker(name, up)), None)
        if hardware is not None:
            self._calm = 0
            if self.fleet.start_worker(hardware, "all workers are busy") is not None:
                self._back_off = _BACK_OFF
            return
        self._calm = self._calm + 1 if self._is_calm(up) else 0
        if self._calm >= _BACK_OFF:
            self._calm = 0
            self._stop_one(up)

    def _needs_worker(self, hardware: str, up: Iterable[str]) -> bool:
        used = [self._utilisation(name) for name in up if self.cluster.workers[name].hardware.name == hardware]
        is_busy = bool(used) and min(used) > UTILISATION
        return is_busy or (hardware != "cpu" and self._wants_gpu and bool(used))

    def _is_calm(self, up: Sequence[str]) -> bool:
        """Return true if accelerators have nearly empty memory, and CPU workers 30 % of utilisation."""
        cpus = [self._utilisation(name) for name in up if self.cluster.workers[name].hardware.name == "cpu"]
        others = [self._utilisation(name) for name in up if self.cluster.workers[name].hardware.name != "cpu"]
        if self._wants_gpu or not others:
            return False
        idle = min(others) <= 0.08 and min(cpus, default=0.0) <= 0.05
        return idle or (_mean(others) <= 0.08 and _mean(cpus) <= 0.3)

    def _stop_one(self, up: Iterable[str]) -> None:
        names = sorted(
            (self._utilisation(name), name) for name in up if self.cluster.workers[name].hardware.name != "cpu"
        )
        for _, name in names[:1]:
            hardware = self.cluster.workers[name].hardware.name
            if len(self.fleet.workers(hardware)) > self.scenario.fleet.get(hardware, 0):
                self.fleet.stop_worker(name, "low utilisation")
                self._back_off = _BACK_OFF


def _predicted_ms(profile: PricedProfile, inputs: int) -> float:
    batch = inputs if profile.is_cpu else min(GPU_BATCH, profile.max_batch)
    return profile.latency.batch_s(batch) * 1e3


def _fits(profile: PricedProfile, query: SimulatedQuery) -> bool:
    return profile.suits(query.query) and query.inputs <= profile.max_batch


def _least(scored: Sequence[tuple[float, PricedProfile]]) -> PricedProfile:
    return min(scored, key=lambda one: one[0])[1]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
