"""Tests of STATIC: its size fits the trace, and it never changes."""

from collections import Counter

import numpy as np
import pytest

from simulator.baselines import BASELINES
from simulator.outcomes import QueryOutcome
from simulator.simulation import simulate
from tests.unit.simulator.baselines.scenarios import KIND, LARGE, SMALL, STRICT, scenario, trace

STEP = trace([(30, 100), (30, 500)])
"""A worker computes about 195 queries a second in batches of one, 220 in larger ones."""


@pytest.mark.parametrize(("name", "workers", "least", "most"), [("static", 3, 0.0, 0.02), ("static-mean", 2, 0.1, 1)])
def test_static_keeps_fleet_of_its_size(name: str, workers: int, least: float, most: float) -> None:
    result = simulate(scenario(STEP), BASELINES[name])
    assert not result.changes
    assert {frozenset(sample.workers.items()) for sample in result.samples} == {frozenset({("cpu", workers)})}
    assert {frozenset(sample.instances.items()) for sample in result.samples} == {frozenset({(SMALL.name, workers)})}
    missed = result.queries.outcome != QueryOutcome.ANSWERED
    assert missed[STEP.time_s < 30].mean() < 0.01
    assert least <= missed[STEP.time_s >= 31].mean() <= most


def test_static_sends_each_class_to_cheapest_variant() -> None:
    queries = trace([(20, 40)], (KIND, STRICT))
    result = simulate(scenario(queries), BASELINES["static"])
    variants = Counter(zip(queries.kind.tolist(), result.queries.variant.tolist(), strict=True))
    strict = queries.kinds.index(STRICT)
    names = [one.name for one in result.scenario.catalogue.variants]
    assert set(variants) == {(strict, names.index(LARGE.name)), (1 - strict, names.index(SMALL.name))}
    assert np.isfinite(result.queries.ended_s).all()
