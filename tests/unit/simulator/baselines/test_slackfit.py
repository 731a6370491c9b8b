"""Tests of SlackFit: subnet and batch by slack and queue, and workers by utilisation."""

import numpy as np
import pytest
from msgspec.structs import replace

from simulator.baselines import BASELINES
from simulator.baselines.priced_profile import PricedProfile, PricedProfiles
from simulator.baselines.supernet import choose_subnet, subnet_choices
from simulator.catalogue import Catalogue
from simulator.cluster.cluster import Cluster
from simulator.events import EventQueue
from simulator.outcomes import Outcomes, QueryOutcome
from simulator.simulation import simulate
from tests.unit.simulator.baselines.scenarios import (
    BURSTY,
    CATALOGUE,
    KIND,
    LARGE,
    LARGE_GPU,
    SMALL,
    SMALL_GPU,
    scenario,
    trace,
)


def profile(name: str) -> PricedProfile:
    cluster = Cluster(scenario(BURSTY), EventQueue(), Outcomes(0), np.random.default_rng(0))
    return PricedProfiles(cluster).by_name[name]


@pytest.mark.parametrize(
    ("queued", "slack_ms", "name", "batch"),
    [
        (1, 200, LARGE.name, 1),
        (1, 50, SMALL.name, 1),  # large takes 96 ms with its spread
        (2, 200, LARGE.name, 2),  # 180 ms
        (16, 200, SMALL.name, 9),  # 197 ms; large computes 2 in that time
        (16, 400, SMALL.name, 16),
        (16, 5, SMALL.name, 16),  # nothing fits: the highest throughput
    ],
)
def test_slackfit_chooses_by_slack_and_queue(queued: int, slack_ms: float, name: str, batch: int) -> None:
    choices = subnet_choices([profile(SMALL.name), profile(LARGE.name)], queued)
    chosen = choose_subnet(choices, slack_ms / 1e3)
    assert (chosen.name, chosen.batch) == (name, batch)


def test_slackfit_lowers_accuracy_in_burst() -> None:
    queries = trace([(10, 50), (5, 1000), (10, 50)])
    result = simulate(scenario(queries, fleet={"cuda": 1}), BASELINES["slackfit"])
    names = np.array([one.name for one in result.scenario.catalogue.variants])[result.queries.variant]
    in_burst = (queries.time_s > 11) & (queries.time_s < 15)
    assert (result.queries.outcome == QueryOutcome.ANSWERED).mean() > 0.7
    assert (names[queries.time_s < 9.9] == LARGE_GPU.name).all()
    assert (names[in_burst] == SMALL_GPU.name).mean() > 0.3


def test_slackfit_batches_more_than_most_accurate_subnet() -> None:
    few = replace(LARGE_GPU, max_batch=2, latency=LARGE_GPU.latency[:2])
    catalogue = Catalogue(hardware=CATALOGUE.hardware, variants=(SMALL_GPU, few))
    given = scenario(trace([(3, 800)]), catalogue=catalogue, fleet={"cuda": 1})
    result = simulate(given, BASELINES["slackfit"])
    assert (result.queries.outcome == QueryOutcome.ANSWERED).mean() > 0.7


def test_slackfit_scales_workers_to_utilisation() -> None:
    result = simulate(scenario(trace([(60, 3000), (60, 50)]), fleet={"cuda": 1}), BASELINES["slackfit"])
    assert max(sample.workers["cuda"] for sample in result.samples) >= 3
    assert result.samples[-1].workers["cuda"] == 1
    assert (result.queries.outcome != QueryOutcome.WAITING).all()


def test_slackfit_spreads_supernets_that_do_not_fit_on_one_worker() -> None:
    tasks = [f"task-{number}" for number in range(6)]
    variants = tuple(
        replace(one, name=f"{task}-{one.name}", architecture=f"{task}-{one.architecture}", task=task)
        for task in tasks
        for one in (SMALL_GPU, LARGE_GPU)
    )
    queries = trace([(10, 30)], [replace(KIND, task=task) for task in tasks])
    given = scenario(queries, catalogue=Catalogue(hardware=CATALOGUE.hardware, variants=variants), fleet={"cuda": 1})
    result = simulate(given, BASELINES["slackfit"])
    # Four of 4 GiB fit on a worker of 16 GiB.
    assert result.samples[0].workers == {"cuda": 2}
    assert len(result.samples[0].instances) == 6
    assert (result.queries.outcome == QueryOutcome.ANSWERED).all()
