"""Tests of variants with uneven batch times, as cascades: priced by the mean, promised by the p99."""

import pytest
from msgspec.structs import replace

from autoscaler.decide.requirements import best_throughput
from schemas.latency import BatchLatency, LatencyModel
from selector.choice import Choice, PolicyConfig, Refusal
from selector.policy import choose
from tests.unit.selector.story import NOW, instance, profile, query, state_of, status, variant

CASCADE, LARGE = "cascade.t80.cpu", "large.onnx-fp32.cpu"
UNEVEN = (BatchLatency(1, 0.001, 0.012, mean_s=0.004), BatchLatency(8, 0.020, 0.080, mean_s=0.025))
NO_UPGRADES = PolicyConfig(upgrades=False)


def outcome(latency_ms: float) -> Choice | Refusal:
    state = state_of(
        (variant(CASCADE), replace(profile(CASCADE), latency=UNEVEN)), (variant(LARGE), profile(LARGE, ms=8))
    )
    state.apply_status(status(instance(CASCADE), instance(LARGE)), NOW)
    return choose(query(latency_ms=latency_ms), state, NOW, NO_UPGRADES)


def test_uneven_variant_is_priced_by_mean() -> None:
    choice = outcome(1000)
    assert isinstance(choice, Choice)
    assert choice.variant.name == CASCADE
    assert choice.cost == pytest.approx(0.004 * 0.048 / 3.6)


def test_uneven_variant_is_chosen_if_p99_is_in_time() -> None:
    choice = outcome(18)
    assert isinstance(choice, Choice)
    assert choice.variant.name == CASCADE
    assert choice.predicted_s >= 0.012
    choice = outcome(13)
    assert isinstance(choice, Choice)
    assert choice.variant.name == LARGE
    assert isinstance(outcome(7), Refusal)


def test_best_throughput_of_uneven_variant_uses_mean() -> None:
    latency = LatencyModel(UNEVEN, 8)
    assert best_throughput(latency, 0.160, 1.0, 1.0).rate == pytest.approx(8 / 0.025)
    assert best_throughput(latency, 0.011, 1.0, 1.0).rate == 0.0
