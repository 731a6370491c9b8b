"""Profiles of variants with price and capacity, and the variants that meet a query's needs on an idle worker."""

from collections.abc import Hashable, Iterable
from typing import Final

from runtimes.catalog import is_concurrent
from schemas.defaults import HOP_S
from schemas.hardware import Hardware, cost_per_1000, slots_taken
from schemas.latency import BATCH_OVERHEAD_S
from schemas.query import Query
from schemas.versions import Versions
from simulator.catalogue import CatalogueHardware
from simulator.cluster.cluster import Cluster
from simulator.cluster.variant import SimulatedVariant
from workers.slots.footprint import footprint_in

NO_LIMIT_S: Final = 3600.0
"""Assumed limit in seconds of queries that have none."""


class PricedProfile:
    """A variant on the hardware of the catalogue, as all baselines know it: exactly, and from the start."""

    def __init__(self, variant: SimulatedVariant, hardware: CatalogueHardware) -> None:
        row, profile = variant.row, variant.profile
        self.variant = variant
        self.name = row.name
        self.architecture = row.architecture
        self.targets = Versions().targets_of(row.architecture) | {row.name}
        self.task = row.task
        self.hardware = hardware
        self.is_cpu = row.hardware == Hardware.CPU
        self.max_batch = row.max_batch
        self.accuracy = profile.accuracy or 0.0
        self.load_s = profile.load_s
        self.memory_bytes = profile.memory_bytes
        self.latency = variant.latency(row.max_batch)
        self.spread = max(point.p99_s / point.p50_s for point in profile.latency)
        """Ratio of a batch's 99th percentile to its median."""
        taken = slots_taken(row.hardware, profile.threads, hardware.threads)
        self.width, self.parallel, _ = footprint_in(hardware.slots, taken, is_concurrent=is_concurrent(row.runtime))
        self.slot_price_per_hour = hardware.price_per_hour * self.width / hardware.slots
        self.usd_per_1000 = cost_per_1000(self.latency.batch_s(1), self.slot_price_per_hour)
        """Price of 1000 inputs in batches of one."""
        self.share = self.parallel * self.width / hardware.slots
        """Share of a worker's slots that one instance can use."""

    def throughput(self, batch: int) -> float:
        """Return the inputs that an instance computes in a second, alone on its worker, in batches of this size."""
        return self.parallel * batch / (self.latency.batch_s(batch) + BATCH_OVERHEAD_S)

    def in_time_batch(self, limit_s: float) -> int:
        """Return the largest batch that ends in time after a full one: two batches take at most `limit_s`.

        The rule is that of Nexus (Shen et al., SOSP'19, section 4.1). At least 1, at most the batch of peak throughput.
        """
        sizes = range(self.latency.best_batch, 0, -1)
        return next((size for size in sizes if 2 * self.latency.promised_s(size) <= limit_s), 1)

    def cost(self, inputs: int) -> float:
        """Return the USD of 1000 queries of this size."""
        return cost_per_1000(self.latency.query_s(inputs), self.slot_price_per_hour)

    def suits(self, query: Query) -> bool:
        """Return true if it answers queries of this task and target and is accurate enough."""
        needs = query.needs
        return query.task == self.task and needs.target in self.targets and self.accuracy >= (needs.min_accuracy or 0.0)

    def meets(self, query: Query) -> bool:
        """Return true if an idle instance meets the needs of a query."""
        most = query.needs.max_cost
        return (
            self.suits(query)
            and self.latency.query_s(query.batch) <= compute_limit_s(query)
            and (most is None or self.cost(query.batch) <= most)
        )


def compute_limit_s(query: Query) -> float:
    """Return the seconds of a query's limit that are left for its computation."""
    latency_ms = query.needs.latency_ms
    return NO_LIMIT_S if latency_ms is None else latency_ms / 1e3 - HOP_S - BATCH_OVERHEAD_S


class PricedProfiles:
    """Variants whose hardware may have workers, by name, in ascending order of their price."""

    def __init__(self, cluster: Cluster) -> None:
        profiles = (PricedProfile(one, cluster.hardware[one.row.hardware]) for one in cluster.variants.values())
        usable = (one for one in profiles if one.hardware.maximum and one.memory_bytes <= one.hardware.memory_bytes)
        self.by_name = {one.name: one for one in sorted(usable, key=lambda one: (one.usd_per_1000, one.name))}
        self._meeting: dict[Hashable, tuple[PricedProfile, ...]] = {}

    def of_task(self, task: str) -> Iterable[PricedProfile]:
        """Return the variants of a task, the cheapest first."""
        return (one for one in self.by_name.values() if one.task == task)

    def of_architecture(self, architecture: str) -> Iterable[PricedProfile]:
        """Return the variants of an architecture, the cheapest first."""
        return (one for one in self.by_name.values() if one.architecture == architecture)

    def meeting(self, query: Query) -> tuple[PricedProfile, ...]:
        """Return the variants that meet the needs of a query on an idle worker, the cheapest first."""
        key = query_class(query)
        found = self._meeting.get(key)
        if found is None:
            found = self._meeting[key] = tuple(one for one in self.by_name.values() if one.meets(query))
        return found


def query_class(query: Query) -> Hashable:
    """Return a key that is equal for queries of equal task, needs and size."""
    return query.task, query.needs, query.batch
