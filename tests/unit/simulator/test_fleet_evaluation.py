"""Tests of the simulation of a scenario within bounds of the fleet."""

from pathlib import Path

import pytest

from simulator.catalogue import write_catalogue
from simulator.fleet_evaluation import evaluate_bounds
from simulator.planning import FleetBounds
from simulator.scenario_file import ScenarioFile, convert_scenario
from tests.unit.simulator.small_catalogue import CATALOGUE


@pytest.fixture
def scenario(tmp_path: Path) -> ScenarioFile:
    """A load that one worker serves, with two workers at the start and a pin."""
    write_catalogue(CATALOGUE, tmp_path / "small.json")
    pin = {"kind": "hardware", "name": "cpu", "minimum": 3}
    return convert_scenario(
        {
            "workload": "poisson:rate=20,seconds=5,tasks=digits,latency_ms=100",
            "catalogue": str(tmp_path / "small.json"),
            "fleet": {"cpu": 2},
            "scaling": {"enabled": False, "pins": [pin]},
        }
    )


@pytest.mark.parametrize(
    ("bounds", "workers"),
    [
        (FleetBounds({}, {}), 2),
        (FleetBounds({"cpu": 1}, {"cpu": 1}), 1),
        (FleetBounds({"cpu": 3}, {}), 3),
        (FleetBounds({"cpu": 1}, {"cpu": 3}), 2),
    ],
)
def test_evaluate_bounds_starts_fleet_within_bounds(scenario: ScenarioFile, bounds: FleetBounds, workers: int) -> None:
    steps: list[int] = []
    found = evaluate_bounds(scenario, bounds, [0], lambda done, _total, _text: steps.append(done))
    assert (found.bounds, found.peak) == (bounds, {"cpu": workers})
    assert found.usd_per_hour == pytest.approx(0.36 * workers)
    assert (found.attainment, steps[-1]) == (1.0, 1)
