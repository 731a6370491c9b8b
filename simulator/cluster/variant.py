"""A variant of the catalogue in a simulation: its rows, its partitions, and the time of its batches."""

from math import exp
from typing import Final

import msgspec
import numpy as np

from schemas.latency import LatencyModel
from schemas.rows.catalog import Profile, Variant
from schemas.topics import variant_topics
from simulator.cluster.partition_log import PartitionLog
from simulator.durations import log_deviation, normal_draws

_LOAD_SIGMA: Final = 0.1
"""Standard deviation of the logarithm of a load time; repeated loads of one model here differ by a tenth."""


class SimulatedVariant:
    """One variant, with the two topics that hold its queries."""

    def __init__(self, number: int, row: Variant, profile: Profile, random: np.random.Generator) -> None:
        self.number = number
        """Number in the catalogue."""
        self.name = row.name
        self.row = row
        self.topics = variant_topics(row.name)
        self.profile = profile
        self.partitions: list[tuple[PartitionLog, PartitionLog]] = []
        """Online and offline partitions, by number."""
        self.wanted_by: dict[str, frozenset[int]] = {}
        """Partitions that its rows want, by worker."""
        self._models: dict[int, LatencyModel] = {}
        self._profiled = LatencyModel(profile.latency, row.max_batch)
        self._noise = normal_draws(random)
        self._sigma = max(log_deviation(point.p50_s, point.p99_s) for point in profile.latency)
        self.grow(row.partitions)

    def grow(self, partitions: int) -> None:
        """Add partitions until there are this many."""
        for number in range(len(self.partitions), partitions):
            self.partitions.append(
                (PartitionLog(self.name, number, offline=False), PartitionLog(self.name, number, offline=True))
            )
        if partitions > self.row.partitions:
            self.row = msgspec.structs.replace(self.row, partitions=partitions)

    def partition(self, number: int) -> tuple[PartitionLog, PartitionLog]:
        """Return the online and the offline partition of this number."""
        return self.partitions[number]

    def is_wanted(self, number: int) -> bool:
        """Return true if a row wants this partition."""
        return any(number in wanted for wanted in self.wanted_by.values())

    def latency(self, max_batch: int) -> LatencyModel:
        """Return the latency model for batches up to `max_batch`."""
        found = self._models.get(max_batch)
        if found is None:
            found = self._models[max_batch] = LatencyModel(self.profile.latency, max_batch)
        return found

    def batch_s(self, inputs: int) -> float:
        """Draw the seconds of a batch that computes alone: the profiled median times lognormal noise."""
        return self._profiled.batch_s(inputs) * exp(self._sigma * next(self._noise))

    def load_s(self) -> float:
        """Draw the seconds of a load."""
        return self.profile.load_s * exp(_LOAD_SIGMA * next(self._noise))
