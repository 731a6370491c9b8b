"""Measured figure beside its baseline."""

from collections.abc import Sequence
from statistics import median
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

Measured: TypeAlias = float | Sequence[float]
"""Value, or the values of all rounds, of which the median counts."""


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measured value beside its baseline: a line of the tables."""

    name: str
    broker: str
    value: float
    unit: str
    baseline: float | None = None
    """Value of the bare program in the same run; None if there is nothing to compare with."""
    ratio: float | None = None
    """Value over baseline."""
    rounds: tuple[float, ...] = ()
    """Values of all rounds in their order, if the value is the median of several."""
    baseline_rounds: tuple[float, ...] = ()
    """Baselines of the same rounds."""
    drift: float | None = None
    """Largest change of the machine's speed between rounds, over the median; None if it was not measured."""
    repeated: int = 0
    """Rounds that were taken again because of a change of the machine's speed."""
    target: str = ""
    """Promise about the value or the ratio; empty if there is none."""
    passed: bool | None = None
    """True if the promise is kept; None if there is none."""
    group: str = ""
    """Table that it belongs to: `scale`, `peers`, or else the first."""
    commit: str = ""
    """Measured commit, as named by `git describe`, which marks uncommitted changes."""
    date: str = ""
    """Day of the measurement, in ISO 8601."""
    machine: str = ""

    @property
    def ratios(self) -> list[float]:
        """Ratio of each round, if both sides took turns."""
        pairs = zip(self.rounds, self.baseline_rounds, strict=False)
        return [one / other for one, other in pairs if other] if len(self.rounds) == len(self.baseline_rounds) else []


def plain(name: str, broker: str, value: Measured, unit: str = "") -> Figure:
    """Make a figure without baseline and promise."""
    return Figure(name=name, broker=broker, value=_typical(value), unit=unit, rounds=_rounds(value))


def beside(name: str, broker: str, value: Measured, unit: str, baseline: Measured) -> Figure:
    """Make a figure over its baseline, without promise."""
    base = _typical(baseline)
    ratio = _typical(value) / base if base else None
    figure = plain(name, broker, value, unit)
    return replace(figure, baseline=base, ratio=ratio, baseline_rounds=_rounds(baseline))


def at_most(name: str, broker: str, value: Measured, unit: str, baseline: Measured, limit: float) -> Figure:
    """Make a figure that is good when small: at most `limit` times its baseline."""
    figure = beside(name, broker, value, unit, baseline)
    return replace(figure, target=f"<= {limit:g}x", passed=_typical(value) <= limit * _typical(baseline))


def at_least(name: str, broker: str, value: Measured, unit: str, baseline: Measured, limit: float) -> Figure:
    """Make a figure that is good when large: at least `limit` times its baseline."""
    figure = beside(name, broker, value, unit, baseline)
    return replace(figure, target=f">= {limit:g}x", passed=_typical(value) >= limit * _typical(baseline))


def within(name: str, broker: str, value: Measured, unit: str, limit: float) -> Figure:
    """Make a figure without baseline that is at most `limit`, in its own unit."""
    figure = plain(name, broker, value, unit)
    return replace(figure, target=f"<= {limit:g} {unit}".strip(), passed=figure.value <= limit)


def _typical(measured: Measured) -> float:
    return median(measured) if isinstance(measured, Sequence) else measured


def _rounds(measured: Measured) -> tuple[float, ...]:
    return tuple(measured) if isinstance(measured, Sequence) and len(measured) > 1 else ()


def exactly(name: str, broker: str, value: float, wanted: float = 0.0) -> Figure:
    """Make a count that is `wanted`, without a unit."""
    return Figure(name=name, broker=broker, value=value, unit="", target=f"{wanted:g}", passed=value == wanted)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0..1) of `values` lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]
