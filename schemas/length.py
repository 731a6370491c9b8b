"""Latency of a variant as a function of the length of its inputs, from its profile.

The latencies of a profile are those of batches of the sample inputs. If the model has a dynamic axis besides the batch,
shorter inputs take less time. The saving depends on the model: attention grows with the square of the length, other
layers grow linearly, and a small model hardly depends on it. The profile therefore contains the times of a few other
lengths, all at one batch size. The prediction adds the difference to the sample's length once for each input of a
batch, because the fixed cost of a batch does not depend on the length. It interpolates linearly between measured
lengths.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import msgspec

from schemas.interpolation import interpolate
from schemas.latency import BatchLatency, LatencyModel

LENGTH_BATCH: Final = 4
"""Batch size at which lengths are measured, or `max_batch` if that is smaller."""
_LONGEST: Final = 16.0
"""Limit of a predicted batch time as a multiple of the profiled time; the model does not extrapolate beyond it."""


class LengthLatency(msgspec.Struct, frozen=True, gc=False):
    """Measurement of one input length, in seconds."""

    length: int
    """Number of elements of an input's largest tensor."""
    p50_s: float
    typical: bool = False
    """True for the length at which the latencies by batch size were measured."""


class LengthModel:
    """Prediction of an input's additional time due to its length.

    A longer input never takes less time. Without measured lengths the additional time is 0.
    """

    __slots__ = ("_input_s", "_longest_s", "_points", "_typical")

    def __init__(self, measured: Sequence[LengthLatency], latency: LatencyModel) -> None:
        """Create the model from measured lengths and from the latency model that its predictions add to."""
        typical = next((point for point in measured if point.typical), None)
        self._points = _extras(measured, typical, latency) if typical is not None else []
        self._typical = typical.length if typical is not None else 0
        self._input_s = min(latency.batch_s(batch) / batch for batch in range(1, latency.max_batch + 1))
        self._longest_s = (_LONGEST - 1) * latency.batch_s(1)

    @property
    def varies(self) -> bool:
        """True if the time depends on the length."""
        return len(self._points) > 1

    def extra_s(self, length: int) -> float:
        """Return the additional seconds of an input of this length, negative if it takes less than a profiled input.

        A batch is never predicted to take less than the share of time that is proportional to its length.
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
"""Model of a variant without measured lengths."""
