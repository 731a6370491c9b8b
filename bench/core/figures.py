"""Measured figure beside its baseline."""

from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """Measured value beside its baseline: a line of the tables."""

    name: str
    broker: str
    value: float
    unit: str
    baseline: float | None = None
    """Value of the bare program in the same run; None if there is nothing to compare with."""
    ratio: float | None = None
    """Value over baseline."""
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


def at_most(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """Make a figure that is good when small: at most `limit` times its baseline."""
    ratio = value / baseline
    return Figure(
        name=name, broker=broker, value=value, unit=unit, baseline=baseline, ratio=ratio,
        target=f"<= {limit:g}x", passed=ratio <= limit,
    )  # fmt: skip


def at_least(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """Make a figure that is good when large: at least `limit` times its baseline."""
    ratio = value / baseline
    return Figure(
        name=name, broker=broker, value=value, unit=unit, baseline=baseline, ratio=ratio,
        target=f">= {limit:g}x", passed=ratio >= limit,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0..1) of `values` lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]
