"""A measured figure beside its baseline."""

from collections.abc import Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `ratio` is value over baseline; `passed`: whether it is on the right side of `target`."""

    name: str
    broker: str
    value: float
    unit: str
    baseline: float | None = None
    """What the bare program reached in the same run; None where there is nothing to compare with."""
    ratio: float | None = None
    target: str = ""
    passed: bool | None = None
    group: str = ""
    """Which table it belongs to: the first, or `scale`."""
    commit: str = ""
    """What was measured: `git describe` of the tree, which says where there were changes beside the commit."""
    date: str = ""
    """ISO 8601."""
    machine: str = ""


def at_most(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """A figure that is good when small: at most `limit` times its baseline."""
    ratio = value / baseline
    return Figure(
        name=name, broker=broker, value=value, unit=unit, baseline=baseline, ratio=ratio,
        target=f"<= {limit:g}x", passed=ratio <= limit,
    )  # fmt: skip


def at_least(name: str, broker: str, value: float, unit: str, baseline: float, limit: float) -> Figure:
    """A figure that is good when large: at least `limit` times its baseline."""
    ratio = value / baseline
    return Figure(
        name=name, broker=broker, value=value, unit=unit, baseline=baseline, ratio=ratio,
        target=f">= {limit:g}x", passed=ratio >= limit,
    )  # fmt: skip


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of `values` lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]
