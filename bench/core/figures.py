"""Measured figure beside its baseline."""

from collections.abc import Sequence
from typing import Any

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


def plain(name: str, broker: str, value: float, unit: str = "") -> Figure:
    """Make a figure without baseline and promise."""
    return Figure(name=name, broker=broker, value=value, unit=unit)


def beside(name: str, broker: str, value: float, unit: str, baseline: float, **promise: Any) -> Figure:
    """Make a figure over its baseline; `promise` sets `target` and `passed`."""
    ratio = value / baseline if baseline else None
    return Figure(name=name, broker=broker, value=value, unit=unit, baseline=baseline, ratio=ratio, **promise)


def at_most(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """Make a figure that is good when small: at most `limit` times its baseline."""
    return beside(name, broker, value, unit, baseline, target=f"<= {limit:g}x", passed=value / baseline <= limit)


def at_least(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """Make a figure that is good when large: at least `limit` times its baseline."""
    return beside(name, broker, value, unit, baseline, target=f">= {limit:g}x", passed=value / baseline >= limit)


def within(name: str, broker: str, value: float, unit: str, limit: float) -> Figure:
    """Make a figure without baseline that is at most `limit`, in its own unit."""
    target = f"<= {limit:g} {unit}".strip()
    return Figure(name=name, broker=broker, value=value, unit=unit, target=target, passed=value <= limit)


def exactly(name: str, broker: str, value: float, wanted: float = 0.0) -> Figure:
    """Make a count that is `wanted`, without a unit."""
    return Figure(name=name, broker=broker, value=value, unit="", target=f"{wanted:g}", passed=value == wanted)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0..1) of `values` lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]
