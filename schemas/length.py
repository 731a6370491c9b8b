"""Latency of a variant as a function of the length of its inputs, from what was measured.

Of a model with a dynamic axis besides the batch, a profile says how long batches of its samples take. Texts of half
the length take less, and by how much depends on the model: attention grows with the square, what precedes it in
proportion, and a small model hardly at all. So some lengths are measured beside the samples' own, all at one batch
size, and a batch of another length is predicted to take the profile's time times a factor, between measured lengths by
interpolation.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

from schemas.interpolation import interpolate

_LONGEST: Final = 16.0
"""Factor beyond which nothing is extrapolated."""


class LengthLatency(msgspec.Struct, frozen=True, gc=False):
    """What was measured at one length; seconds."""

    length: int
    """Values of an input, in all of its variable tensors' largest."""
    p50_s: float
    typical: bool = False
    """Whether it is the length that the profile's latency by batch is of."""


class LengthModel:
    """Predicts by what factor a batch takes longer than the profile says, because of the length of its inputs.

    Longer inputs never take less. Without a measured length the factor is 1: nothing varies, or it is not known.
    """

    __slots__ = ("_points",)

    def __init__(self, measured: Sequence[LengthLatency]) -> None:
        self._points = _factors(measured)

    @property
    def varies(self) -> bool:
        """Whether the factor depends on the length."""
        return len(self._points) > 1

    def factor(self, length: int) -> float:
        """Seconds of a batch of inputs of this length, over those of one as profiled."""
        if not self.varies:
            return 1.0
        return min(max(interpolate(self._points, length), 0.0), _LONGEST)


def _factors(measured: Sequence[LengthLatency]) -> list[tuple[float, float]]:
    typical_s = next((point.p50_s for point in measured if point.typical), 0.0)
    if not typical_s:
        return []
    ordered = sorted(measured, key=lambda point: point.length)
    grown = accumulate((point.p50_s / typical_s for point in ordered), max)
    return [(float(point.length), factor) for point, factor in zip(ordered, grown, strict=True)]


UNKNOWN_LENGTHS: Final = LengthModel(())
"""The model of a variant of which no length was measured."""
