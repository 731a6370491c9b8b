"""Tests of `Planner`: plans, and rankings that are kept until what they depend on changes."""

import msgspec

from autoscaler.decide.planner import Planner
from autoscaler.decide.snapshot import ClusterSnapshot
from schemas.catalog import Catalog
from schemas.status import InstanceState
from tests.example_rows import a_worker, an_instance
from tests.unit.autoscaler.decide.snapshots import LIMITS, cpus, full, load, profile, registered

PROFILES = [profile("digits-a", 0.95, 0.01), profile("digits-b", 0.9, 0.001)]
CATALOG = Catalog(variants=registered(PROFILES), profiles={p.variant: p for p in PROFILES})
SNAPSHOT = ClusterSnapshot(workers=(a_worker(),), hardware=(cpus(),))


def test_plan_places_a_demanded_variant() -> None:
    snapshot = msgspec.structs.replace(SNAPSHOT, classes=(load("digits", 10.0, accuracy=0.92),))
    _, plan = Planner(LIMITS).plan(CATALOG, snapshot)
    assert ("place", full("digits-a")) in {(change.action, change.variant) for change in plan.changes}


def test_plan_keeps_ranking_while_only_load_changes() -> None:
    planner = Planner(LIMITS)
    ranking, _ = planner.plan(CATALOG, SNAPSHOT)
    again, _ = planner.plan(CATALOG, msgspec.structs.replace(SNAPSHOT, classes=(load("digits", 10.0),)))
    assert again is ranking


def test_plan_ranks_again_on_changes() -> None:
    planner = Planner(LIMITS)
    both, _ = planner.plan(CATALOG, SNAPSHOT)
    assert set(both.candidates) == {full("digits-a"), full("digits-b")}
    failed = msgspec.structs.replace(an_instance(full("digits-a")), state=InstanceState.FAILED)
    without, _ = planner.plan(CATALOG, msgspec.structs.replace(SNAPSHOT, instances=(failed,)))
    assert set(without.candidates) == {full("digits-b")}
    empty, _ = planner.plan(Catalog(), SNAPSHOT)
    assert not empty.candidates
    nowhere, _ = planner.plan(CATALOG, ClusterSnapshot())
    assert not nowhere.candidates
