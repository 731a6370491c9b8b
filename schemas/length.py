"""Latency of a variant as a function of the length of its inputs, from what was measured.

Of a model with a dynamic axis besides the batch, a profile says how long batches of its samples take. Texts of half
the length take less, and by how much depends on the model: attention grows with the square, what precedes it in
proportion, and a small model hardly at all. So some lengths are measured beside the samples' own, all at one batch
size, and a batch of another length is predicted to take the profile's time times a factor, between measured lengths by
interpolation.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from math import sqrt
from typing import Final

import msgspec

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
        return min(max(_interpolate(self._points, length), 0.0), _LONGEST)


def interpolation_error(points: Sequence[tuple[float, float]]) -> float:
    """How well lines between measured points predict: the relative error at each inner one, from its neighbours.

    The root mean square; 0 with fewer than three points.
    """
    ordered = sorted(points)
    errors = [
        _interpolate([ordered[at - 1], ordered[at + 1]], ordered[at][0]) / ordered[at][1] - 1
        for at in range(1, len(ordered) - 1)
    ]
    return sqrt(sum(error * error for error in errors) / len(errors)) if errors else 0.0


def _factors(measured: Sequence[LengthLatency]) -> list[tuple[float, float]]:
    typical_s = next((point.p50_s for point in measured if point.typical), 0.0)
    if not typical_s:
        return []
    ordered = sorted(measured, key=lambda point: point.length)
    grown = accumulate((point.p50_s / typical_s for point in ordered), max)
    return [(float(point.length), factor) for point, factor in zip(ordered, grown, strict=True)]


def _interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    right = min(max(bisect_left(points, (at, 0.0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


UNKNOWN_LENGTHS: Final = LengthModel(())
"""The model of a variant of which no length was measured."""
