"""A measured figure beside its baseline."""

from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A measured value beside its baseline: a line of the tables."""

    name: str
    broker: str
    value: float
    unit: str
    baseline: float | None = None
    """What the bare program reached in the same run; None where there is nothing to compare with."""
    ratio: float | None = None
    """Value over baseline."""
    target: str = ""
    """What is promised of the value or the ratio; empty if nothing is."""
    passed: bool | None = None
    """Whether the promise is kept; None where there is none."""
    group: str = ""
    """Table that it belongs to: `scale`, `peers`, or else the first."""
    commit: str = ""
    """Commit that was measured, as `git describe` names it; it says where there were changes beside it."""
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
