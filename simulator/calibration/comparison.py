"""Errors of a simulation, figure by figure, beside the noise of real runs of the same scenario."""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from statistics import fmean
from typing import Final

import msgspec

from simulator.summary import Summary

GOALS: Final[Mapping[str, float]] = {
    "attainment": 0.1, "p50_ms": 0.1, "p99_ms": 0.2, "accuracy": 0.1, "usd_per_hour": 0.1, "changes": 0.1,
}  # fmt: skip
"""Largest wanted error of each compared figure."""
_ONE_MORE: Final = 1.0
"""Difference of numbers of changes that counts as none: one change more or less is a matter of a moment."""
_LIMIT: Final = "limit"
"""Change of the largest batch of an instance. It depends on queries before the trace, so it does not count."""
_ROUNDING: Final = 1e-9


class ErrorVerdict(StrEnum):
    """Judgement of an error."""

    WITHIN = "within"
    """It is within the goal."""
    NOISE = "noise"
    """It exceeds the goal, but not the difference between two real runs."""
    OFF = "off"
    """It exceeds both."""
    UNKNOWN = "unknown"
    """A run has no such figure."""


class CalibratedFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of the real and the simulated runs of a scenario."""

    name: str
    real: float | None
    """Mean of the real runs; None: unknown."""
    simulated: float | None
    """Mean of the simulated runs."""
    error: float | None
    """Difference of the means over the real one; None: unknown, or the real one is 0 and the other is not."""
    noise: float | None
    """Largest difference of two real runs over their mean; None with a single run."""
    goal: float
    verdict: ErrorVerdict


def compare_summaries(real: Sequence[Summary], simulated: Sequence[Summary]) -> tuple[CalibratedFigure, ...]:
    """Return each compared figure of real and simulated runs of one scenario; at least one of both."""
    return tuple(
        _compare(name, [_value(one, name) for one in real], [_value(one, name) for one in simulated], goal)
        for name, goal in GOALS.items()
    )


def _value(summary: Summary, name: str) -> float:
    if name == "changes":
        return float(sum(count for action, count in summary.changes.items() if action != _LIMIT))
    return getattr(summary, name)


def _compare(name: str, real: Sequence[float], simulated: Sequence[float], goal: float) -> CalibratedFigure:
    slack = _ONE_MORE if name == "changes" else 0.0
    means = fmean(real), fmean(simulated)
    error = _relative(means[1] - means[0], means[0], slack)
    noise = _relative(max(real) - min(real), means[0], slack) if len(real) > 1 else None
    return CalibratedFigure(
        name=name, real=_known(means[0]), simulated=_known(means[1]), error=_known(error),
        noise=None if noise is None else _known(noise), goal=goal, verdict=_verdict(error, noise, goal),
    )  # fmt: skip


def _verdict(error: float, noise: float | None, goal: float) -> ErrorVerdict:
    if math.isnan(error):
        return ErrorVerdict.UNKNOWN
    if error <= goal + _ROUNDING:
        return ErrorVerdict.WITHIN
    return ErrorVerdict.NOISE if noise is not None and error <= noise else ErrorVerdict.OFF


def _relative(difference: float, base: float, slack: float) -> float:
    size = abs(difference)
    if size <= slack:
        return 0.0
    return size / abs(base) if base else math.inf if size else 0.0


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
