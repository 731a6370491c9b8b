"""Simulation of a scenario within bounds of the fleet."""

from collections.abc import Sequence
from statistics import fmean

from msgspec.structs import replace

from schemas.rows.cluster import PinKind
from simulator.planning import FleetBounds, TriedFleet
from simulator.replications import Progress, replicate
from simulator.scenario_file import ScenarioFile
from simulator.simulation import SimulationResult


def evaluate_bounds(
    scenario: ScenarioFile, bounds: FleetBounds, seeds: Sequence[int], progress: Progress
) -> TriedFleet:
    """Simulate a scenario with each seed within bounds; the minimum runs from the start.

    Raises:
        OperatorError: the scenario does not fit together.
        OSError: a file of the scenario cannot be read.
    """
    found = replicate(_within(scenario, bounds), seeds, progress)
    summaries = found.summaries.values()
    return TriedFleet(
        bounds=bounds,
        attainment=fmean(one.attainment for one in summaries),
        usd_per_hour=fmean(one.usd_per_hour for one in summaries),
        peak=_peak(found.first),
    )


def _within(scenario: ScenarioFile, bounds: FleetBounds) -> ScenarioFile:
    scaling = scenario.scaling
    others = tuple(pin for pin in scaling.pins if pin.kind is not PinKind.HARDWARE)
    minimum, maximum = bounds.minimum, bounds.maximum
    names = scenario.fleet.keys() | minimum.keys()
    fleet = {name: max(scenario.fleet.get(name, 0), minimum.get(name, 0)) for name in sorted(names)}
    return replace(
        scenario,
        fleet={name: min(count, maximum.get(name, count)) for name, count in fleet.items()},
        scaling=replace(scaling, enabled=True, pins=(*others, *bounds.pins())),
    )


def _peak(result: SimulationResult) -> dict[str, int]:
    """Return the largest number of workers by hardware, after the warm-up."""
    samples = [sample.workers for sample in result.samples if sample.at_s >= result.scenario.warm_up_s]
    names = {name for workers in samples for name in workers}
    return {name: max(workers.get(name, 0) for workers in samples) for name in sorted(names)}
