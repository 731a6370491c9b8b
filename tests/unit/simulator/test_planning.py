"""Tests of the search for the cheapest fleet, on a model of the attainment instead of a simulation."""

import math

import pytest

from simulator.planning import FleetBounds, FleetPlan, FleetSearch, Goal, TriedFleet, first_fitting, scaled

PRICES = {"cpu": 1.0, "t4": 3.0}
POWER = {"cpu": 1.0, "t4": 4.0}


class SmallModel:
    """Attainment of a load that needs some power in the mean and more at its peak.

    An autoscaled fleet follows the load, but is late: it attains less the smaller its minimum is.
    """

    def __init__(self, mean: float, peak: float, composition: dict[str, int]) -> None:
        self.mean, self.peak, self.composition = mean, peak, composition

    def __call__(self, bounds: FleetBounds) -> TriedFleet:
        largest = bounds.maximum or self.composition
        least, most = (sum(POWER[name] * count for name, count in one.items()) for one in (bounds.minimum, largest))
        attainment = min(0.9 + 0.1 * least / self.peak, most / self.peak, 1.0)
        used = {name: max(count, bounds.minimum.get(name, 0)) for name, count in largest.items()}
        usd = sum(PRICES[name] * count for name, count in (bounds.minimum if bounds.fixed else used).items())
        share = 1.0 if bounds.fixed else max(self.mean / self.peak, least / max(most, 1))
        return TriedFleet(bounds, attainment, usd * share, used)


def plan(attainment: float, budget: float = math.inf, largest: int = 50, peak: float = 12.0) -> FleetPlan:
    model = SmallModel(mean=4.0, peak=peak, composition={"cpu": 8, "t4": 2})
    return FleetSearch(model, Goal(attainment, budget), PRICES, dict.fromkeys(PRICES, largest)).run()


def test_plan_finds_smallest_fixed_fleet() -> None:
    found = plan(attainment=1.0)
    assert found.fixed is not None
    assert found.fixed.bounds == FleetBounds({"cpu": 4, "t4": 2}, {"cpu": 4, "t4": 2})
    assert found.fixed.usd_per_hour == 10.0


def test_plan_raises_minimum_until_objective_is_met() -> None:
    found = plan(attainment=0.95)
    assert found.autoscaled is not None
    minimum = found.autoscaled.bounds.minimum
    assert 6 <= sum(POWER[name] * count for name, count in minimum.items()) <= 8
    assert found.autoscaled.attainment >= 0.95
    assert found.best is found.autoscaled
    assert found.autoscaled.usd_per_hour < (found.fixed.usd_per_hour if found.fixed else math.inf)


def test_plan_lowers_maximum_while_objective_is_met() -> None:
    found = plan(attainment=0.9)
    assert found.autoscaled is not None
    assert sum(POWER[name] * count for name, count in found.autoscaled.bounds.maximum.items()) <= 0.9 * 12 + 4


def test_plan_grows_beyond_peak_up_to_maximum() -> None:
    found = plan(attainment=1.0, peak=40.0)
    assert found.fixed is not None
    assert sum(POWER[name] * count for name, count in found.fixed.bounds.minimum.items()) >= 40
    assert plan(attainment=1.0, peak=40.0, largest=4).fixed is None


def test_plan_keeps_budget() -> None:
    assert plan(attainment=1.0, budget=9.9).fixed is None
    assert plan(attainment=1.0, budget=9.9).best is None
    assert plan(attainment=1.0, budget=10.0).best is not None


def test_plan_simulates_each_fleet_once_and_few_fleets() -> None:
    tried = [str(one.bounds) for one in plan(attainment=0.95).tried]
    assert len(tried) == len(set(tried)) < 20


def test_plan_without_workers_tries_nothing_else() -> None:
    model = SmallModel(mean=1.0, peak=1.0, composition={})
    found = FleetSearch(model, Goal(0.5), PRICES, {}).run()
    assert (found.best, len(found.tried)) == (None, 1)


@pytest.mark.parametrize(
    ("answer", "start", "largest", "found"),
    [(1, 8, 32, 1), (5, 8, 32, 5), (8, 8, 32, 8), (9, 8, 32, 9), (32, 8, 32, 32), (33, 8, 32, None), (1, 1, 1, 1)],
)
def test_first_fitting_finds_smallest(answer: int, start: int, largest: int, found: int | None) -> None:
    assert first_fitting(lambda number: number >= answer, start, largest) == found


def test_scaled_rounds_up() -> None:
    assert scaled({"cpu": 10, "t4": 1, "v100": 0}, 0.3) == {"cpu": 3, "t4": 1, "v100": 0}


@pytest.mark.parametrize(
    ("bounds", "text", "fixed", "commands"),
    [
        (FleetBounds({}, {}), "any", False, []),
        (FleetBounds({"cpu": 2}, {}), "cpu 2..", False, ["infaas scale pin hardware cpu --min 2"]),
        (
            FleetBounds({"cpu": 2}, {"cpu": 3, "t4": 0}),
            "cpu 2..3",
            False,
            ["infaas scale pin hardware cpu --min 2 --max 3", "infaas scale pin hardware t4 --max 0"],
        ),
        (FleetBounds({"cpu": 2}, {"cpu": 2}), "cpu 2", True, ["infaas scale pin hardware cpu --min 2 --max 2"]),
    ],
)
def test_bounds_have_text_and_commands(bounds: FleetBounds, text: str, fixed: bool, commands: list[str]) -> None:
    assert (str(bounds), bounds.fixed, bounds.commands()) == (text, fixed, commands)
