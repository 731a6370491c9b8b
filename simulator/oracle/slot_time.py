"""Least slot time of a query: the best variant of a hardware, and the best batch size."""

from dataclasses import dataclass
from math import erfc, inf, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import OperatorError
from schemas.hardware import slots_taken
from schemas.latency import LatencyModel
from simulator.catalogue import CatalogueHardware, CatalogueVariant
from simulator.durations import log_deviation
from simulator.trace import QueryKind

_MOST_DEVIATION: Final = 1.59
_IMPOSSIBLE: Final = 1e-9


@dataclass(frozen=True, slots=True)
class SlotTimes:
    """Least time of a query on a hardware, by the largest batch from 1 on."""

    variant: NDArray[np.int64]
    """Index of the variant with the least time."""
    worker_s: NDArray[np.float64]
    """Seconds of a worker: slot seconds divided by its slots; infinite if no variant can be in time."""


class SlotTimeTable:
    """Slot times of the variants of a catalogue."""

    def __init__(
        self, variants: tuple[CatalogueVariant, ...], hardware: tuple[CatalogueHardware, ...], overhead_s: float
    ) -> None:
        """Create the table; a batch takes `overhead_s` besides its profile.

        Raises:
            OperatorError: the p99 of a variant is so far from its p50 that the bound is not proven.
        """
        self._variants = variants
        self._hardware = {one.name: one for one in hardware}
        self._overhead_s = overhead_s
        self._models = [LatencyModel(variant.latency, variant.max_batch) for variant in variants]
        self._deviation = [max(log_deviation(p.p50_s, p.p99_s) for p in variant.latency) for variant in variants]
        for variant, deviation in zip(variants, self._deviation, strict=True):
            if deviation > _MOST_DEVIATION:
                raise OperatorError(f"{variant.name}: the oracle bound needs a p99 below 40 times the p50")

    def meeting(self, kind: QueryKind) -> list[int]:
        """Return the variants that are the target of a kind of query and accurate enough."""
        return [n for n, variant in enumerate(self._variants) if _meets(variant, kind)]

    def of_hardware(self, kind: QueryKind, hardware: str) -> SlotTimes | None:
        """Return the least times of a query on a hardware; None if no variant meets its needs."""
        numbers = [n for n in self.meeting(kind) if self._variants[n].hardware == hardware]
        if not numbers:
            return None
        largest = max(kind.batch, *(self._variants[n].max_batch for n in numbers))
        times = np.full((len(numbers), largest), inf)
        for row, number in enumerate(numbers):
            found = self.worker_s(number, kind)
            times[row, : len(found)], times[row, len(found) :] = found, found[-1]
        best = times.argmin(axis=0)
        return SlotTimes(np.array(numbers)[best], times.min(axis=0))

    def worker_s(self, number: int, kind: QueryKind) -> NDArray[np.float64]:
        """Return the least worker seconds of a query on a variant, by the largest batch from 1 on."""
        variant, model = self._variants[number], self._models[number]
        hardware = self._hardware[variant.hardware]
        width = min(slots_taken(variant.hardware, variant.threads, hardware.threads), hardware.slots)
        sizes = range(1, max(variant.max_batch, kind.batch) + 1)
        within_s = inf if kind.latency_ms is None else kind.latency_ms / 1e3 - self._overhead_s
        deviation = self._deviation[number]
        seconds = np.array([least_s(model.batch_s(size), within_s, deviation) for size in sizes])
        slot_s = width * (seconds + self._overhead_s) / np.array(sizes)
        return np.minimum.accumulate(slot_s) * kind.batch / hardware.slots


def _meets(variant: CatalogueVariant, kind: QueryKind) -> bool:
    if variant.task != kind.task or variant.accuracy < (kind.min_accuracy or 0.0):
        return False
    return kind.target is None or kind.target == variant.name or kind.target.split("@")[0] == variant.architecture


def least_s(median_s: float, within_s: float, deviation: float) -> float:
    """Return the least mean seconds until `within_s` by success of a batch (proof: `simulator.oracle`).

    The logarithm of its time has this standard deviation. The result is infinite if it cannot succeed.
    """
    if median_s <= within_s:
        return median_s
    if within_s <= 0.0 or deviation <= 0.0:
        return inf
    chance = erfc(-log(within_s / median_s) / deviation / sqrt(2.0)) / 2.0
    return inf if chance < _IMPOSSIBLE else max(median_s, within_s * (1.0 - chance) / chance)
