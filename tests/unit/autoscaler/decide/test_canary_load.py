"""Tests of the planned load of a canary: it has an instance before its share; the serving version keeps its load."""

from typing import Any

from autoscaler.decide.optimizer.model import AllocationProblem
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Architecture
from schemas.rows.rollout import Rollout
from schemas.versions import versions_of
from tests.store_rows import SHA, a_worker
from tests.unit.autoscaler.decide.snapshots import LIMITS, full, instance_load, load, profile, ranking

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
