"""Distributions of batch sizes: the numbers of inputs of queries."""

from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.random import Generator
from numpy.typing import NDArray

from schemas.query import MAX_BATCH
from simulator.workloads.arrival_process import ArrivalSample

BatchSize = Annotated[int, Meta(ge=1, le=MAX_BATCH)]
_Sizes = NDArray[np.int64]


class BatchSizes(msgspec.Struct, frozen=True, kw_only=True, tag_field="sizes", forbid_unknown_fields=True):
    """Distribution of batch sizes; `draw(arrivals, random)` of each draws the batch size of each arrival."""


class GeometricSizes(BatchSizes, frozen=True, kw_only=True, tag="geometric"):
    """Geometric distribution from 1; sizes above `most` become `most`."""

    mean: Annotated[float, Meta(ge=1, le=MAX_BATCH)]
    """Mean before the limit `most`."""
    most: BatchSize = 256

    def draw(self, arrivals: ArrivalSample, random: Generator) -> _Sizes:
        """See `BatchSizes`."""
        return np.minimum(random.geometric(1 / self.mean, len(arrivals.time_s)), self.most)


class ListedSizes(BatchSizes, frozen=True, kw_only=True, tag="list"):
    """Sizes from a list, with equal probability; a size that is listed twice is twice as frequent."""

    of: Annotated[tuple[BatchSize, ...], Meta(min_length=1)]

    def draw(self, arrivals: ArrivalSample, random: Generator) -> _Sizes:
        """See `BatchSizes`."""
        return random.choice(np.array(self.of, np.int64), len(arrivals.time_s))


class UnitSizes(BatchSizes, frozen=True, kw_only=True, tag="units"):
    """Sizes in proportion to the units of a published trace, rounded, from 1 to `most`."""

    scale: Annotated[float, Meta(gt=0, le=MAX_BATCH)]
    """Inputs per unit."""
    most: BatchSize = 256

    def draw(self, arrivals: ArrivalSample, random: Generator) -> _Sizes:
        """See `BatchSizes`.

        Raises:
            ValueError: the arrivals have no units.
        """
        if arrivals.units is None:
            raise ValueError("batch sizes by units need arrivals of a published trace that has units")
        return np.clip(np.rint(arrivals.units * self.scale), 1, self.most).astype(np.int64)


AnySizes = GeometricSizes | ListedSizes | UnitSizes
