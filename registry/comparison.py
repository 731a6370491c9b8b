"""Compares the variants of a task and finds the dominated ones. Pure.

A kind of variant is its name without the hardware, with the number of its cores. It is dominated by another kind of its
task that is at least as accurate and, on all hardware that it was measured on, at least as fast at every batch size;
that is better in one of these; and that takes no more cores. A dominated variant stays registered: the other may not
run on some machine, and a later measurement may differ. Selectors need not know: a dominated variant costs more at
every size, so they never order it first.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from schemas.generation_model import priced_s
from schemas.hardware import cost_per_1000, list_price
from schemas.latency import BatchLatency, LatencyModel
from schemas.rows.catalog import Profile, Variant


class ComparedPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy, latency and cost of one variant in the comparison of its task."""

    variant: str
    architecture: str
    label: str
    """Runtime and precision, which are the middle part of the variant's name."""
    accuracy: float
    """Quality by the task's measure, 0..1."""
    latency_s: float
    """Seconds of a batch of one input."""
    cost: float
    """USD per 1000 inputs at list prices, at the variant's cheapest batch size; of a generative one per 1000 tokens,
    with as many answers at once as it makes."""
    dominated_by: str = ""
    """Variant that is better in every respect, among the variants that the caller may use; empty: there is none."""


class ComparedVariant(msgspec.Struct, frozen=True):
    """One variant with the values that are compared."""

    variant: Variant
    profile: Profile
    latency: LatencyModel
    dominated_by: str = ""
    """Name of a variant that dominates it; empty if there is none."""

    @property
    def kind(self) -> tuple[str, int]:
        """Its name without the hardware, and its number of cores."""
        return self.variant.name.rpartition(".")[0], self.profile.threads

    @property
    def label(self) -> str:
        """Middle part of its name, with the number of cores from the last part."""
        _, label, hardware = self.variant.name.rsplit(".", 2)
        return label if hardware == self.variant.hardware else f"{label}.{hardware}"

    @property
    def title(self) -> str:
        """Its name without the hardware."""
        return f"{self.variant.architecture}.{self.label}"

    @property
    def latency_s(self) -> float:
        """Seconds for a single input."""
        return self.latency.batch_s(1)

    @property
    def cost(self) -> float:
        """USD for 1000 inputs, or tokens of a generative variant, at its cheapest, at list prices."""
        input_s = min(self.latency.batch_s(size) / size for size in self.sizes)
        price = list_price(self.variant.hardware, self.profile.threads)
        return cost_per_1000(priced_s(self.profile.generation, input_s, offline=True), price)

    def point(self) -> ComparedPoint:
        """Return the values to show of it."""
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
"""Least speed-up by which a variant on more cores is worth them, at some batch size."""
_Kinds: TypeAlias = dict[tuple[str, int], dict[str, ComparedVariant]]
"""Variants by hardware, by kind."""


def best_gain(wide: Sequence[BatchLatency], narrow: Sequence[BatchLatency]) -> float:
    """Return the largest speed-up of a variant on more cores over all batch sizes."""
    before_s = {measured.batch: measured.typical_s for measured in narrow}
    gains = [before_s[one.batch] / one.typical_s for one in wide if one.batch in before_s and one.typical_s > 0]
    return max(gains, default=1.0)


def compare(variants: Sequence[Variant], profiles: Mapping[str, Profile]) -> list[ComparedVariant]:
    """Compare the variants that have a profile, each with the others of its task; keeps their order."""
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
    """Return the most accurate variant whose kind dominates this one on all hardware; empty if there is none."""
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
