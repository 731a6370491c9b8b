"""What the variants of a task are worth beside each other, and which are dominated. Pure.

A kind of variant (its name without the hardware, and the cores that it takes) is dominated by another of its task that
is at least as accurate, and on all hardware that it was measured on at least as fast at every batch size, and better in
one of these, on no more cores. It stays registered: a machine where the other cannot run, or a later measurement, may
say something else. Selectors need not know: what is dominated is dearer at every size, so it is never before the other
in their order.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from schemas.endpoints.catalog import ComparedPoint
from schemas.hardware import cost_per_1000, list_price
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.catalog import Profile, Variant


class ComparedVariant(msgspec.Struct, frozen=True):
    """One variant with what counts when it is compared."""

    variant: Variant
    profile: Profile
    latency: LatencyModel
    dominated_by: str = ""
    """Name of a variant that is better in everything; empty if there is none."""

    @property
    def kind(self) -> tuple[str, int]:
        """Its name without the hardware, and the cores that it takes."""
        return self.variant.name.rpartition(".")[0], self.profile.threads

    @property
    def label(self) -> str:
        """The middle part of its name, with the cores that are in the last."""
        _, label, hardware = self.variant.name.rsplit(".", 2)
        return label if hardware == self.variant.hardware else f"{label}.{hardware}"

    @property
    def title(self) -> str:
        """Its name, short of the hardware that all have."""
        return f"{self.variant.architecture}.{self.label}"

    @property
    def latency_s(self) -> float:
        """Seconds of a single input."""
        return self.latency.batch_s(1)

    @property
    def cost(self) -> float:
        """USD of 1000 inputs at the batch size that is cheapest for it, at list prices."""
        price = list_price(self.variant.hardware, self.profile.threads)
        return cost_per_1000(min(self.latency.batch_s(size) / size for size in self.sizes), price)

    def point(self) -> ComparedPoint:
        """What is to be told of it."""
        return ComparedPoint(
            variant=self.variant.name,
            architecture=self.variant.architecture,
            label=self.label,
            accuracy=self.profile.accuracy,
            latency_s=self.latency_s,
            cost=self.cost,
            dominated_by=self.dominated_by,
        )

    @property
    def sizes(self) -> list[int]:
        """Batch sizes that were measured."""
        return [measured.batch for measured in self.profile.latency]


LEAST_GAIN: Final = 1.2
"""Times that a variant must be as fast on more cores to be worth them, at some batch size."""
_Kinds: TypeAlias = dict[tuple[str, int], dict[str, ComparedVariant]]
"""Variants by hardware, by kind."""


def best_gain(wide: Sequence[BatchLatency], narrow: Sequence[BatchLatency]) -> float:
    """Times that a variant on more cores is as fast, at the batch size where that is most."""
    before_s = {measured.batch: measured.typical_s for measured in narrow}
    gains = [before_s[one.batch] / one.typical_s for one in wide if one.batch in before_s and one.typical_s > 0]
    return max(gains, default=1.0)


def compare(variants: Sequence[Variant], profiles: Mapping[str, Profile]) -> list[ComparedVariant]:
    """Compare those that have a profile, each with the others of its task; in their order."""
    found: list[ComparedVariant] = []
    kinds: defaultdict[str, _Kinds] = defaultdict(dict)
    for variant in variants:
        profile = profiles.get(variant.name)
        if profile is not None:
            one = ComparedVariant(variant, profile, LatencyModel(profile.latency, variant.max_batch))
            kinds[variant.task].setdefault(one.kind, {})[variant.hardware] = one
            found.append(one)
    return [msgspec.structs.replace(one, dominated_by=_better_than(one, kinds[one.variant.task])) for one in found]


def _better_than(one: ComparedVariant, kinds: _Kinds) -> str:
    """Name of the most accurate variant that dominates this one on its hardware, and its kind on all."""
    mine = kinds[one.kind]
    others = [
        other[one.variant.hardware]
        for other in kinds.values()
        if other is not mine and mine.keys() <= other.keys() and all(_dominates(other[at], mine[at]) for at in mine)
    ]
    best = min(others, key=lambda other: (-other.profile.accuracy, other.latency_s), default=None)
    return best.variant.name if best is not None else ""


def _dominates(other: ComparedVariant, one: ComparedVariant) -> bool:
    if other.profile.accuracy < one.profile.accuracy or other.profile.threads > one.profile.threads:
        return False
    gains = [one.latency.batch_s(size) - other.latency.batch_s(size) for size in one.sizes]
    return min(gains) >= 0.0 and (max(gains) > 0.0 or other.profile.accuracy > one.profile.accuracy)
