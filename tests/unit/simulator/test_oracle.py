"""Tests of the oracle bound: hand-computed cases, and that no run or exact optimum is below it."""

from collections.abc import Iterator, Sequence
from math import inf
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import OperatorError
from schemas.latency import BatchLatency
from schemas.query import Mode
from simulator.catalogue import CatalogueVariant
from simulator.oracle.bound import oracle_cost, oracle_violations
from simulator.oracle.slot_time import least_s
from simulator.scenario import Scaling, Scenario
from simulator.simulation import simulate
from simulator.summary import summarize
from simulator.trace import QueryKind
from tests.unit.simulator.small_scenarios import HARDWARE, KIND, scenario, variant

CHEAP = replace(HARDWARE, name="cpu", price_per_hour=360.0)
STEADY = [n / 5 for n in range(101)]
ALONE = (variant("t4", [0.1]),)
ACCURATE = replace(KIND, min_accuracy=0.85)
HURRIED = replace(KIND, latency_ms=300.0)
IMPOSSIBLE = replace(KIND, latency_ms=50.0)
BOTH = (variant("t4", [0.1]), variant("cpu", [0.4]))


@pytest.mark.parametrize(
    ("made", "violations", "usd"),
    [
        pytest.param(scenario(STEADY, ALONE), 0.0, 10.1, id="rate x slot seconds x price"),
        pytest.param(scenario(STEADY, ALONE), 0.5, 5.05, id="violations"),
        pytest.param(scenario(STEADY, ALONE, drain_s=60.0), 0.0, 9.5, id="the last window waits"),
        pytest.param(scenario(STEADY, ALONE, warm_up_s=10.0), 0.0, 5.1, id="warm-up"),
        pytest.param(scenario(STEADY, ALONE, hardware=[replace(HARDWARE, slots=4)]), 0.0, 2.525, id="slots"),
        pytest.param(scenario(STEADY, [variant("t4", [0.1, 0.12])]), 0.0, 101 * 0.06, id="batch"),
        pytest.param(scenario(STEADY[::5], [variant("t4", [0.1, 0.12])]), 0.0, 2.1, id="no batch"),
        pytest.param(scenario(STEADY, BOTH, hardware=[HARDWARE, CHEAP]), 0.0, 4.04, id="cheap hardware"),
        pytest.param(scenario(STEADY, BOTH, [HURRIED], [HARDWARE, CHEAP]), 0.0, 10.1, id="in time"),
        pytest.param(
            scenario(STEADY, (ALONE[0], replace(BOTH[1], accuracy=0.8)), [KIND, ACCURATE], [HARDWARE, CHEAP]), 0.0,
            51 * 0.04 + 50 * 0.1, id="accuracy",
        ),
        pytest.param(scenario(STEADY, ALONE, [IMPOSSIBLE]), 0.0, inf, id="too fast"),
        pytest.param(scenario(STEADY, ALONE, [IMPOSSIBLE]), 1.0, 0.0, id="all missed"),
    ],
)  # fmt: skip
def test_oracle_cost_is_hand_computed(made: Scenario, violations: float, usd: float) -> None:
    assert oracle_cost(made, violations).usd == pytest.approx(usd, rel=1e-4)


def test_oracle_cost_holds_whole_worker() -> None:
    slow = replace(HARDWARE, start_s=100.0)
    assert 17.0 < oracle_cost(scenario(STEADY[::5], ALONE, hardware=[slow]), 0.0).usd <= 20.0


def test_oracle_cost_counts_luck() -> None:
    noisy = replace(ALONE[0], latency=(BatchLatency(1, 0.1, 0.2),))
    kinds = [replace(KIND, latency_ms=ms) for ms in (500.0, 90.0, 75.0)]
    usd = [oracle_cost(scenario(STEADY, [noisy], [kind]), 0.0).usd for kind in kinds]
    assert usd[0] == pytest.approx(10.1)
    assert usd[0] < usd[1] < usd[2] < inf
    with pytest.raises(OperatorError, match="40 times"):
        oracle_cost(scenario(STEADY, [replace(noisy, latency=(BatchLatency(1, 0.1, 9.0),))]), 0.0)


@pytest.mark.parametrize("deviation", [0.05, 0.5, 1.0, 1.59])
@pytest.mark.parametrize("within_s", [0.3, 0.8, 0.99, 1.0, 1.1, 2.0, 50.0])
def test_least_s_is_not_above_mean_by_success(deviation: float, within_s: float) -> None:
    normal, steps = NormalDist(), 20_000
    times_s = np.exp(deviation * np.array([normal.inv_cdf((n + 0.5) / steps) for n in range(steps)]))
    successes = float((times_s <= within_s).mean())
    if successes:
        mean_s = float(np.minimum(times_s, within_s).mean()) / successes
        assert least_s(1.0, within_s, deviation) <= mean_s * 1.01
        assert least_s(1.0, within_s, deviation) >= 1.0


@pytest.mark.parametrize("violations", [0.0, 0.1, 0.6])
def test_oracle_violations_mirror_cost(violations: float) -> None:
    made = scenario(STEADY, BOTH, [KIND, HURRIED], [replace(HARDWARE, start_s=3.0), CHEAP])
    assert oracle_violations(made, oracle_cost(made, violations).usd) == pytest.approx(violations, abs=1e-4)


# -- generated scenarios -----------------------------------------------------------------------------------------------

SECONDS = st.lists(st.floats(0.005, 0.3), min_size=1, max_size=3).map(sorted)
LATENCY = st.sampled_from([200.0, 600.0, 2000.0])
NEEDS = st.tuples(LATENCY, st.sampled_from([None, 0.85]), st.sampled_from([1, 2, 5]))


@st.composite
def variant_sets(draw: st.DrawFn) -> list[CatalogueVariant]:
    drawn = draw(st.lists(st.tuples(SECONDS, st.sampled_from(["t4", "cpu"]), st.booleans()), min_size=1, max_size=3))
    return [
        variant(
            hardware, seconds, name=f"mlp{n}.onnx-fp32.{hardware}", architecture=f"mlp{n}",
            accuracy=0.9 if accurate else 0.8,
        )
        for n, (seconds, hardware, accurate) in enumerate(drawn)
    ]  # fmt: skip


@st.composite
def loads(draw: st.DrawFn) -> Scenario:
    variants, needs = draw(variant_sets()), draw(st.lists(NEEDS, min_size=1, max_size=3))
    kinds = [replace(KIND, latency_ms=ms, min_accuracy=least, batch=batch) for ms, least, batch in needs]
    if draw(st.booleans()):
        kinds.append(replace(KIND, latency_ms=None, mode=Mode.OFFLINE))
    gaps = draw(st.lists(st.floats(0.0, 0.4), min_size=10, max_size=60))
    times = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    hardware = [replace(one, start_s=draw(st.floats(0.0, 3.0)), slots=2) for one in (HARDWARE, CHEAP)]
    return scenario(
        times, variants, kinds, hardware,
        fleet={one.name: draw(st.integers(1, 2)) for one in hardware},
        placed={one.name: 1 for one in variants},
        scaling=Scaling(enabled=draw(st.booleans())), drain_s=30.0, warm_up_s=draw(st.sampled_from([0.0, 1.0])),
    )  # fmt: skip


@settings(max_examples=20)
@given(loads())
def test_simulation_is_not_below_bound(made: Scenario) -> None:
    found = summarize(simulate(made))
    if found.queries == found.offline:
        return
    assert found.violations >= oracle_violations(made, found.usd) - 1e-6
    online = found.queries - found.offline
    if found.answered == found.offline + round(found.attainment * online):
        assert found.usd >= oracle_cost(made, found.violations).usd * (1 - 1e-6) - 1e-6


@settings(max_examples=20)
@given(loads(), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_oracle_cost_is_monotone(made: Scenario, one: float, other: float) -> None:
    usd = oracle_cost(made, min(one, other)).usd
    doubled = replace(made, trace=made.trace.overlaid([made.trace]))
    assert oracle_cost(made, max(one, other)).usd <= usd * (1 + 1e-6) + 1e-6
    assert usd <= oracle_cost(doubled, min(one, other)).usd * (1 + 1e-6) + 1e-6


def _partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Yield all ways to split items into batches."""
    if not items:
        yield []
        return
    for rest in _partitions(items[1:]):
        yield [[items[0]], *rest]
        for n, batch in enumerate(rest):
            yield [*rest[:n], [items[0], *batch], *rest[n + 1 :]]


def _exact_usd(made: Scenario, queries: int) -> float:
    """Return the optimum of the first queries, of one input each, by trying all batches on all variants."""
    time_s, kinds = made.trace.time_s, [made.trace.kinds[n] for n in made.trace.kind]
    prices = {one.name: one.price_per_hour / 3600 / one.slots for one in made.catalogue.hardware}

    def batch_usd(batch: list[int]) -> float:
        end_s = min(time_s[n] + (kinds[n].latency_ms or inf) / 1e3 for n in batch) - max(time_s[n] for n in batch)
        least = max(kinds[n].min_accuracy or 0.0 for n in batch)
        fit = [
            v
            for v in made.catalogue.variants
            if v.task == KIND.task and v.accuracy >= least and len(batch) <= v.max_batch
        ]
        seconds = [(v.latency[len(batch) - 1].p50_s, prices[v.hardware]) for v in fit]
        return min((s * price for s, price in seconds if s <= end_s), default=inf)

    return min(sum(map(batch_usd, batches)) for batches in _partitions(range(queries)))


@settings(max_examples=50)
@given(variant_sets(), st.lists(NEEDS, min_size=5, max_size=5), st.floats(0.0, 0.5))
def test_exact_optimum_is_not_below_bound(
    variants: list[CatalogueVariant], needs: list[tuple[float, float | None, int]], gap_s: float
) -> None:
    kinds = [replace(KIND, latency_ms=ms, min_accuracy=least) for ms, least, _ in needs]
    other = variant("cpu", [0.001], name="other.onnx-fp32.cpu", architecture="other", task="other")
    later = QueryKind(task="other", latency_ms=1000.0)  # keeps the end of the trace, which is free, far from the others
    times = [*(n * gap_s for n in range(5)), 10.0]
    made = scenario(times, [*variants, other], [*kinds, later], [HARDWARE, CHEAP], drain_s=1.0)
    assert _exact_usd(made, 5) >= oracle_cost(made, 0.0).usd - 1e-6
