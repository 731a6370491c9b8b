"""Finds the Pareto-best variants of each task, which no other variant dominates.

A variant is dominated when another of its task is at least as accurate, fast, small and cheap, and better in one of
these. Of equal variants the first by name stays. A dominated variant is the best answer to no query. A variant
dominates another only if all tenants that may use the other may use it, too. Only variants that some live worker can
run are compared. Variants that only a startable worker could run are candidates, because load is a reason to start one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

import msgspec

from autoscaler.decide.snapshot import HardwareType
from runtimes.catalog import is_concurrent
from schemas.access import Users
from schemas.generation_model import GenerationModel
from schemas.hardware import CorePrice, cores_of, cores_taken, cost_per_1000, list_price, slots_taken
from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, Variant
from schemas.rows.cluster import InstanceRow, WorkerRow
from schemas.status import InstanceState
from schemas.versions import Versions

ANY: Final = "*"


class CoreOffer(NamedTuple):
    """Offer of cores by available workers; an accelerator counts as one core."""

    price: CorePrice
    """The lowest price."""
    most: int
    """The largest number of cores of one worker."""


CoreOffers: TypeAlias = dict[tuple[str, str], CoreOffer]
"""Offers by hardware and runtime."""
_ONE_OF_EACH: Final = Versions()
_EVERYBODY: Final[Users] = {}
_NO_OFFER: Final = CoreOffer(CorePrice(0.0), 0)


class RunnableVariant(msgspec.Struct, frozen=True, kw_only=True):
    """A variant that a worker can run, with the values that candidates are compared by."""

    variant: Variant
    accuracy: float
    latency_s: float
    """Promised seconds of its smallest measured batch."""
    cost: float
    """Cost in USD of 1000 inputs at its most efficient batch size."""
    memory_bytes: int
    load_s: float
    latency: LatencyModel
    generation: GenerationModel | None = None
    """Times of its answers; None: it is not generative."""
    concurrent: bool = False
    """True if an instance may run batches in all slots of its worker, provided that a batch takes one slot.
    False of a generative variant: its engine makes all answers at once, on its own threads."""
    cores: int = 1
    """Cores that a batch takes; 1 on an accelerator."""

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.variant.name

    def width(self, slot_threads: int) -> int:
        """Return the slots that a batch takes if a slot has `slot_threads` cores."""
        return slots_taken(self.variant.hardware, self.cores, slot_threads)


class ParetoChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A Pareto-best candidate, with its rank and reason."""

    candidate: RunnableVariant
    rank: int
    """Position within its task, 0 first: the order of placement."""
    reason: str


class VariantRanking(msgspec.Struct, frozen=True, kw_only=True):
    """Ranking of the registered variants on the available workers."""

    candidates: dict[str, RunnableVariant] = {}
    """Variants that a live or startable worker can run, by name."""
    best: dict[str, ParetoChoice] = {}
    """Variants that can run now and are not dominated, by name; sorted by rank, tasks interleaved."""


def live_cores(workers: Collection[WorkerRow]) -> CoreOffers:
    """Return the core offers of live workers."""
    offers: CoreOffers = {}
    for worker in workers:
        cores = cores_of(worker.hardware, worker.slots, worker.threads)
        price = CorePrice(worker.price_per_hour / cores or list_price(worker.hardware, 1), worker.threads)
        for runtime in worker.runtimes if worker.alive else ():
            key = (worker.hardware, runtime)
            known = offers.get(key, CoreOffer(price, cores))
            offers[key] = CoreOffer(min(price, known.price), max(cores, known.most))
    return offers


def launchable_cores(hardware: Collection[HardwareType]) -> CoreOffers:
    """Return the core offers of workers that the launcher may start; `ANY` stands for unknown runtimes."""
    return {
        (one.name, runtime): _offer_of(one) for one in hardware for runtime in one.runtimes or (ANY,) if one.maximum > 0
    }


def _offer_of(one: HardwareType) -> CoreOffer:
    cores = cores_of(one.name, one.slots, one.threads)
    return CoreOffer(CorePrice.of(one.name, one.slots, one.threads, one.price_per_hour), cores)


def rank_variants(
    variants: Mapping[str, Variant],
    profiles: Mapping[str, Profile],
    live: Mapping[tuple[str, str], CoreOffer],
    launchable: Mapping[tuple[str, str], CoreOffer] = MappingProxyType({}),
    versions: Versions = _ONE_OF_EACH,
    users: Users = _EVERYBODY,
) -> VariantRanking:
    """Rank the variants that can run, within each task and each group of `users`. Variants need a profile.

    Only `versions` that serve are compared: canaries, shadows and retired versions answer only queries that name them.
    """
    candidates: dict[str, RunnableVariant] = {}
    by_task: defaultdict[str, list[RunnableVariant]] = defaultdict(list)
    for variant in variants.values():
        where, profile = (variant.hardware, variant.runtime), profiles.get(variant.name)
        if profile is None:
            continue
        cores = cores_of(variant.hardware, profile.threads, 1)
        there, startable = live.get(where, _NO_OFFER), launchable.get(where) or launchable.get((variant.hardware, ANY))
        offer = there if there.most >= cores else startable
        if offer is not None and offer.most >= cores:
            candidates[variant.name] = candidate = _candidate(variant, profile, cores, offer.price)
            if offer is there and versions.serves(variant.architecture):
                by_task[variant.task].append(candidate)
    best = [choice for task in sorted(by_task) for choice in _choices_of_all(by_task[task], users)]
    best.sort(key=lambda choice: choice.rank)  # stable sort: interleaves tasks
    return VariantRanking(candidates=candidates, best={choice.candidate.name: choice for choice in best})


def _candidate(variant: Variant, profile: Profile, cores: int, core: CorePrice) -> RunnableVariant:
    smallest = min(profile.latency, key=lambda measured: measured.batch)
    latency = LatencyModel(profile.latency, variant.max_batch)
    efficient_s = min(latency.batch_s(measured.batch) / measured.batch for measured in profile.latency)
    price = core.usd_per_hour * cores_taken(variant.hardware, cores, core.slot_threads)
    return RunnableVariant(
        variant=variant,
        accuracy=profile.accuracy,
        latency_s=latency.promised_s(smallest.batch),
        cost=cost_per_1000(efficient_s, price),
        memory_bytes=profile.memory_bytes,
        load_s=profile.load_s,
        latency=latency,
        generation=None if profile.generation is None else GenerationModel(profile.generation),
        concurrent=profile.generation is None and is_concurrent(variant.runtime),
        cores=cores,
    )


def _choices_of_all(candidates: Sequence[RunnableVariant], users: Users) -> list[ParetoChoice]:
    """Return the choices of each group of tenants with equal permissions.

    A group's variants are compared with all variants that the group may use. Only the group's own are returned, because
    the others belong to wider groups.
    """
    groups = defaultdict[frozenset[str] | None, list[RunnableVariant]](list)
    for candidate in candidates:
        groups[users.get(candidate.variant.architecture)].append(candidate)
    found = list[ParetoChoice]()
    for tenants in sorted(groups, key=lambda some: sorted(some or ())):
        usable = [c for others, some in groups.items() if _is_wider(others, tenants) for c in some]
        choices = [c for c in _choices(usable) if users.get(c.candidate.variant.architecture) == tenants]
        found += [msgspec.structs.replace(choice, rank=rank) for rank, choice in enumerate(choices)]
    return found


def _is_wider(others: frozenset[str] | None, tenants: frozenset[str] | None) -> bool:
    """Return true if the others include all of these tenants; None means everybody."""
    return others is None or (tenants is not None and tenants <= others)


def _choices(candidates: Sequence[RunnableVariant]) -> list[ParetoChoice]:
    """Return the Pareto-best in order: the most accurate, then the fastest, then the rest by accuracy."""
    best = pareto_best(candidates)
    fastest = min(best, key=lambda c: (c.latency_s, c.name))
    ordered = [best[0], *([fastest] if fastest is not best[0] else [])]
    ordered += [c for c in best[1:] if c is not fastest]
    return [ParetoChoice(candidate=c, rank=rank, reason=_reason(c, rank, fastest)) for rank, c in enumerate(ordered)]


def _reason(candidate: RunnableVariant, rank: int, fastest: RunnableVariant) -> str:
    task = candidate.variant.task
    if rank == 0:
        return f"the most accurate of {task}" + (" and the fastest" if candidate is fastest else "")
    return f"the fastest of {task}" if candidate is fastest else f"no variant of {task} is better in all measures"


def pareto_best(candidates: Sequence[RunnableVariant]) -> list[RunnableVariant]:
    """Return the candidates that no other dominates, the most accurate first."""
    best: list[RunnableVariant] = []
    # In this order no later candidate can dominate a kept one, so one pass suffices.
    for candidate in sorted(candidates, key=lambda c: (-c.accuracy, c.latency_s, c.cost, c.memory_bytes, c.name)):
        if not any(_at_least_as_good(kept, candidate) for kept in best):
            best.append(candidate)
    return best


def _at_least_as_good(a: RunnableVariant, b: RunnableVariant) -> bool:
    return (
        a.accuracy >= b.accuracy
        and a.latency_s <= b.latency_s
        and a.cost <= b.cost
        and a.memory_bytes <= b.memory_bytes
    )


def unloadable_variants(
    variants: Mapping[str, Variant],
    profiles: Mapping[str, Profile],
    workers: Iterable[WorkerRow],
    instances: Iterable[InstanceRow],
) -> dict[str, str]:
    """Return the variants that every suitable live worker has failed to load, with the reason.

    The row of a failed instance is kept as long as its worker, so that the worker is not given the variant again. A
    worker that restarts under its name tries again and updates the row.
    """
    failed: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in instances:
        if row.state is InstanceState.FAILED and row.variant in variants:
            failed[row.variant][row.worker] = row.reason
    if not failed:
        return {}
    living = [worker for worker in workers if worker.alive]
    found: dict[str, str] = {}
    for name, reasons in failed.items():
        able = [worker.name for worker in living if _is_for(worker, variants[name], profiles.get(name))]
        if able and all(worker in reasons for worker in able):
            found[name] = reasons[able[0]]
    return found


def _is_for(worker: WorkerRow, variant: Variant, profile: Profile | None) -> bool:
    if worker.hardware != variant.hardware or variant.runtime not in worker.runtimes:
        return False
    return profile is None or slots_taken(worker.hardware, profile.threads, worker.threads) <= worker.slots
