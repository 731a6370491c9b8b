"""Tests of the expected load: it follows trends, and a canary has an instance before its share."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decide.expected_load import growth
from autoscaler.decide.optimizer.model import AllocationProblem
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Architecture
from schemas.versions import Rollout, versions_of
from tests.example_rows import SHA, a_worker
from tests.unit.autoscaler.decide.snapshots import LIMITS, full, instance_load, load, profile, ranking

LOADS = st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=200)


@given(LOADS, st.floats(0, 100), st.floats(0, 1e6))
def test_growth_is_bounded_and_at_least_one(history: list[float], horizon_s: float, present: float) -> None:
    assert 1.0 <= growth(history, horizon_s, present) <= 2.0


def test_growth_reaches_as_far_as_worker_needs_to_start() -> None:
    rising = [100.0 + 3 * second for second in range(60)]
    assert growth(rising, 32, 263.0) == pytest.approx((rising[-1] + 3 * 32) / 263, rel=0.02)


@pytest.mark.parametrize("after_s", [2, 5, 10, 15, 20, 25])
def test_growth_expects_no_second_step(after_s: int) -> None:
    stepped = [100.0 + 5 * math.sin(7.3 * second) for second in range(60)] + [400.0] * after_s
    assert growth(stepped, 32, 400.0) < 1.2


def test_growth_follows_trend() -> None:
    rising = [10.0 + 2 * second for second in range(60)]
    assert 1.03 < growth(rising, 5, rising[-1]) < 1.2
    assert growth(rising, 5, rising[-1]) < growth(rising, 10, rising[-1])


def test_growth_ignores_noise() -> None:
    noisy = [100.0 + 10 * math.sin(7.3 * second) for second in range(120)]
    assert growth(noisy, 10, 110.0) < 1.05


NEW = "digits-a-v2"
KNOWN = [profile("digits-a", 0.9, 0.001), profile(NEW, 0.9, 0.001), profile("digits-b", 0.8, 0.001)]


def problem(*classes: ClassLoad, share: float = 0.0, shadow: float = 0.0, **rest: Any) -> AllocationProblem:
    rows = {
        name: Architecture(name=name, task="digits", source=SHA, source_format="onnx", model=model, version=version)
        for name, model, version in (("digits-a", "", 1), (NEW, "digits-a", 2), ("digits-b", "", 1))
    }
    candidate = 2 if share or shadow else None
    rollout = Rollout(model="digits-a", serving=1, candidate=candidate, share=share, shadow=shadow)
    versions = versions_of(rows, {"digits-a": rollout})
    snapshot = ClusterSnapshot(workers=(a_worker(),), classes=classes, versions=versions, **rest)
    return build_problem(ranking(KNOWN, snapshot), snapshot, LIMITS)


def rates(found: AllocationProblem) -> list[tuple[set[str], float]]:
    return [({found.variants[o.variant].name for o in r.options}, round(r.rate, 6)) for r in found.requirements]


def test_build_problem_ignores_version_without_rollout() -> None:
    assert rates(problem(load("digits", 10))) == [({full("digits-a"), full("digits-b")}, 10)]


def test_canary_load_is_its_share_of_the_model() -> None:
    assert rates(problem(load("digits", 10, target="digits-a"), share=0.2)) == [
        ({full("digits-a")}, 10),
        ({full(NEW)}, 0),
        ({full(NEW)}, 2),
    ]


def test_canary_has_requirement_without_load() -> None:
    assert rates(problem(share=0.2)) == [({full(NEW)}, 0)]
    assert rates(problem(shadow=0.2)) == [({full(NEW)}, 0)]


def test_canary_load_counts_only_its_model() -> None:
    answered = (instance_load("digits-a", inputs_per_s=30.0), instance_load("digits-b", inputs_per_s=10.0))
    found = rates(problem(load("digits", 40), share=0.5, instance_loads=answered))
    assert found[-1] == ({full(NEW)}, 15)


def test_canary_load_excludes_unmet_needs() -> None:
    assert rates(problem(load("digits", 10, accuracy=0.95), share=0.5)) == [({full(NEW)}, 0)]
