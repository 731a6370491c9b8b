"""Figures of runs: their names, their means over seeds, and their texts."""

import math
from collections.abc import Iterator, Sequence
from statistics import fmean, stdev
from typing import Any, Final, NamedTuple

_SHARES: Final = frozenset({"attainment", "violations", "accuracy", "prediction_error", "utilisation"})
_ROUNDING: Final = 1e-12


class MeanFigure(NamedTuple):
    """Mean and sample standard deviation of a figure over seeds; NaN: unknown."""

    mean: float
    spread: float


def mean_figure(values: Sequence[float]) -> MeanFigure:
    """Return the mean and deviation of the known values; NaN is unknown."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return MeanFigure(math.nan, math.nan)
    mean, spread = fmean(known), stdev(known) if len(known) > 1 else 0.0
    return MeanFigure(mean, spread if spread > abs(mean) * _ROUNDING else 0.0)


def flatten(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield names and values; the figures of an inner dictionary are named `workers.cpu`, for example. None is NaN."""
    for name, value in figures.items():
        if isinstance(value, dict):
            inner: dict[str, Any] = value
            yield from flatten(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, math.nan if value is None else float(value)


def format_figure(name: str, value: float) -> str:
    """Format the value of the figure of this name: a share as a percentage; a dash if unknown."""
    if math.isnan(value):
        return "-"
    if name.partition(".")[0] in _SHARES:
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1e4 else f"{value:.4g}"
