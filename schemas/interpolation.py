"""Linear interpolation between measured points, and an estimate of its error."""

from bisect import bisect_left
from collections.abc import Sequence
from math import sqrt


def interpolate(points: Sequence[tuple[float, float]], at: float) -> float:
    """Interpolate linearly at `at`; outside the points, extrapolate along the nearest segment.

    `points` are sorted, at least two.
    """
    right = min(max(bisect_left(points, (at, 0.0)), 1), len(points) - 1)
    (x0, y0), (x1, y1) = points[right - 1], points[right]
    return y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def interpolation_error(points: Sequence[tuple[float, float]]) -> float:
    """Return the relative error of linear interpolation, estimated at each inner point from its two neighbours.

    The result is the root mean square; it is 0 with fewer than three points.
    """
    ordered = sorted(points)
    errors = [
        interpolate([ordered[at - 1], ordered[at + 1]], ordered[at][0]) / ordered[at][1] - 1
        for at in range(1, len(ordered) - 1)
    ]
    return sqrt(sum(error * error for error in errors) / len(errors)) if errors else 0.0
