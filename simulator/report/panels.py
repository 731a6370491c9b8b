"""Panels of a report: plots over time, as data."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulator.report.time_series import Vector, query_series, sampled
from simulator.simulation import SimulationResult

_MOST_LINES: Final = 9
"""Number of lines with distinct colours; the rest are one line."""
_REST: Final = "others"


@dataclass(frozen=True, slots=True)
class Panel:
    """Plot of lines over time."""

    title: str
    """Quantity with its unit."""
    time_s: Vector
    lines: dict[str, Vector]
    """Values by label; an empty label has no entry in the legend. NaN: a gap."""
    from_zero: bool = True
    """True if the axis of the values begins at 0."""


def report_panels(result: SimulationResult) -> list[Panel]:
    """Return the panels of a simulation."""
    queries, samples = query_series(result), result.samples
    at_s = np.array([sample.at_s for sample in samples])
    rates = {
        "arrived": queries.arrived,
        "answered in time": queries.answered,
        "late": queries.late,
        "refused or expired": queries.refused,
    }
    instances = sampled(samples, lambda sample: sample.instances)
    busy = sampled(samples, lambda sample: sample.busy)
    return [
        Panel("queries per second", queries.time_s, rates),
        Panel("violations, % of online arrivals", queries.time_s, {"": 100 * queries.violations}),
        Panel("queries that wait", at_s, sampled(samples, lambda sample: {"": sample.waiting})),
        Panel("accuracy of answers, %", queries.time_s, {"": 100 * queries.accuracy}, from_zero=False),
        Panel("instances by variant", at_s, largest_lines(instances)),
        Panel("workers by hardware", at_s, sampled(samples, lambda sample: sample.workers)),
        Panel("busy slots, %", at_s, {name: 100 * share for name, share in busy.items()}),
        Panel("price of the workers, USD per hour", at_s, sampled(samples, lambda sample: {"": sample.usd_per_hour})),
    ]


def largest_lines(lines: dict[str, Vector]) -> dict[str, Vector]:
    """Return the lines with the largest sums, and the sum of the others as one line."""
    if len(lines) <= _MOST_LINES:
        return lines
    names = sorted(lines, key=lambda name: -float(lines[name].sum()))
    kept, others = names[: _MOST_LINES - 1], names[_MOST_LINES - 1 :]
    return {name: lines[name] for name in kept} | {_REST: np.sum([lines[name] for name in others], axis=0)}
