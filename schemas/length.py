"""Latency of a variant as a function of the length of its inputs, from what was measured.

Of a model with a dynamic axis besides the batch, a profile says how long batches of its samples take. Texts of half
the length take less, and by how much depends on the model: attention grows with the square, what precedes it in
proportion, and a small model hardly at all. So some lengths are measured beside the samples' own, all at one batch
size. What an input of a length takes more, or less, than one of the samples' is what each of a batch adds: what a batch
takes however small it is does not depend on the length. Between measured lengths it lies on a line.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

from schemas.interpolation import interpolate
from schemas.latency import BatchLatency, LatencyModel

LENGTH_BATCH: Final = 4
"""Inputs of a batch at which lengths are measured, if one may have so many."""
_LONGEST: Final = 16.0
"""Times that a batch may be predicted to take of one as profiled: nothing is extrapolated beyond."""


class LengthLatency(msgspec.Struct, frozen=True, gc=False):
    """What was measured at one length; seconds."""

    length: int
    """Values of an input, in all of its variable tensors' largest."""
    p50_s: float
    typical: bool = False
    """Whether it is the length that the profile's latency by batch is of."""


class LengthModel:
    """Predicts what an input takes more than the profile says, because of its length.

    Longer inputs never take less. Without a measured length it is nothing: nothing varies, or it is not known.
    """

    __slots__ = ("_input_s", "_longest_s", "_points", "_typical")

    def __init__(self, measured: Sequence[LengthLatency], latency: LatencyModel) -> None:
        """Take what was measured, and the model of the latency by batch that it adds to."""
        typical = next((point for point in measured if point.typical), None)
        self._points = _extras(measured, typical, latency) if typical is not None else []
        self._typical = typical.length if typical is not None else 0
        self._input_s = min(latency.batch_s(batch) / batch for batch in range(1, latency.max_batch + 1))
        self._longest_s = (_LONGEST - 1) * latency.batch_s(1)

    @property
    def varies(self) -> bool:
        """Whether the time depends on the length."""
        return len(self._points) > 1

    def extra_s(self, length: int) -> float:
        """Seconds that each input of this length takes more than one as profiled; less than 0: it takes less.

        A batch is never predicted to take less than in proportion to its length.
        """
        if not self.varies:
            return 0.0
        least_s = (min(length / self._typical, 1.0) - 1.0) * self._input_s
        return min(max(interpolate(self._points, length), least_s), self._longest_s)


def _extras(
    measured: Sequence[LengthLatency], typical: LengthLatency, latency: LatencyModel
) -> list[tuple[float, float]]:
    inputs = min(LENGTH_BATCH, latency.max_batch)
    ordered = sorted(measured, key=lambda point: point.length)
    grown = accumulate((latency.correction * (point.p50_s - typical.p50_s) / inputs for point in ordered), max)
    return [(float(point.length), extra_s) for point, extra_s in zip(ordered, grown, strict=True)]


UNKNOWN_LENGTHS: Final = LengthModel((), LatencyModel([BatchLatency(1, 0.0, 0.0)], 1))
"""The model of a variant of which no length was measured."""
