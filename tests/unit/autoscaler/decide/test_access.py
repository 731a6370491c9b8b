"""Tests of capacity for tenants: the load of a class of tenants is planned only on variants that they may use."""

from typing import Any

import pytest
from msgspec.structs import replace

from autoscaler.decide.optimizer.greedy import solve_greedy
from autoscaler.decide.optimizer.model import AllocationProblem
from autoscaler.decide.pareto import live_cores, rank_variants
from autoscaler.decide.requirements import build_problem
from autoscaler.decide.snapshot import Backlog, ClassLoad, ClusterSnapshot
from schemas.access import EVERY_TENANT
from schemas.rows.catalog import Architecture
from schemas.rows.cluster import Pin, PinKind
from schemas.versions import Rollout, versions_of
from tests.example_rows import a_worker
from tests.unit.autoscaler.decide.snapshots import LIMITS, full, load, profile, ranking, registered

OPEN, OWN, SHARED = "digits-open", "digits-own", "digits-shared"
KNOWN = [profile(OPEN, 0.8, 0.010), profile(OWN, 0.9, 0.001), profile(SHARED, 0.85, 0.002), profile("mnist-own")]
USERS = {OWN: frozenset({"acme"}), SHARED: frozenset({"acme", "globex"}), "mnist-own": frozenset({"acme"})}


def problem(*classes: ClassLoad, **rest: Any) -> AllocationProblem:
    found: dict[str, Any] = {"workers": (a_worker(),), "classes": classes, "users": USERS} | rest
    snapshot = ClusterSnapshot(**found)
    return build_problem(ranking(KNOWN, snapshot), snapshot, LIMITS)


def of(tenant: str | None, found: ClassLoad) -> ClassLoad:
    return replace(found, load_class=replace(found.load_class, tenant=tenant))


def options(found: AllocationProblem) -> list[set[str]]:
    return [{found.variants[o.variant].name for o in requirement.options} for requirement in found.requirements]


@pytest.mark.parametrize(
    ("tenant", "usable"),
    [(None, {OPEN}), ("globex", {OPEN, SHARED}), ("acme", {OPEN, OWN, SHARED}), (EVERY_TENANT, {OPEN, OWN, SHARED})],
)
def test_build_problem_uses_variants_of_the_tenant(tenant: str | None, usable: set[str]) -> None:
    assert options(problem(of(tenant, load("digits", 10)))) == [{full(name) for name in usable}]


def test_build_problem_excludes_forbidden_variants() -> None:
    assert problem(of("globex", load("digits", 10, accuracy=0.9))).requirements == ()
    assert problem(of(None, load("digits", 10, target=OWN))).requirements == ()
    assert problem(of(None, load("mnist", 10))).requirements == ()
    assert options(problem(of("acme", load("mnist", 10)))) == [{full("mnist-own")}]


def test_solve_greedy_public_load_loads_no_private_variant() -> None:
    found = problem(of(None, load("digits", 10)), of("acme", load("digits", 10)))
    allocation = solve_greedy(found)
    names = {found.variants[n].name for n, count in enumerate(allocation.instances) if count}
    assert full(OPEN) in names
    alone = problem(of(None, load("digits", 10)))
    loaded = {alone.variants[n].name for n, count in enumerate(solve_greedy(alone).instances) if count}
    assert loaded == {full(OPEN)}


def test_build_problem_backlog_uses_public_variants() -> None:
    """The tenants of a backlog are unknown: it is planned on public variants, or on any if none is public."""
    waits = problem(backlogs=(Backlog(task="digits", inputs=500, age_s=5.0),))
    assert options(waits) == [{full(OPEN)}]
    assert options(problem(backlogs=(Backlog(task="mnist", inputs=500, age_s=5.0),))) == [{full("mnist-own")}]
    bound = Backlog(task="digits", inputs=500, age_s=5.0, variant=full(OWN))
    assert options(problem(backlogs=(bound,))) == [{full(OWN)}], "it was given there, by who knew whose it is"


def test_build_problem_task_pin_uses_public_variants() -> None:
    assert options(problem(bounds=(Pin(kind=PinKind.TASK, name="digits", minimum=1),))) == [{full(OPEN)}]
    assert options(problem(bounds=(Pin(kind=PinKind.VARIANT, name=full(OWN), minimum=1),))) == [{full(OWN)}]


def test_private_canary_load_is_share_of_its_tenants() -> None:
    names = {"digits-own": 1, "digits-own-v2": 2}
    rows = {
        name: Architecture(
            name=name, task="digits", source="0" * 64, source_format="onnx", model="digits-own", version=number
        )
        for name, number in names.items()
    }
    versions = versions_of(rows, {"digits-own": Rollout(model="digits-own", serving=1, candidate=2, share=0.5)})
    known = [*KNOWN, profile("digits-own-v2")]
    snapshot = ClusterSnapshot(
        workers=(a_worker(),),
        classes=(of(None, load("digits", 10)), of("acme", load("digits", 30))),
        users=USERS | {"digits-own-v2": USERS[OWN]},
        versions=versions,
    )
    found = build_problem(ranking(known, snapshot), snapshot, LIMITS)
    of_canary = [
        r.rate
        for r, usable in zip(found.requirements, options(found), strict=True)
        if usable == {full("digits-own-v2")}
    ]
    assert of_canary == [0.0, 15.0], "one instance, and half of what acme asks"


def test_rank_variants_keeps_best_of_each_tenant_class() -> None:
    variants, profiles = registered(KNOWN), {p.variant: p for p in KNOWN}
    prices = live_cores((a_worker(),))
    assert full(OPEN) not in rank_variants(variants, profiles, prices).best, "it is beaten in everything"
    best = rank_variants(variants, profiles, prices, users=USERS).best
    assert set(best) == {full(OPEN), full(OWN), full(SHARED), full("mnist-own")}
    assert {best[full(name)].rank for name in (OPEN, OWN, SHARED)} == {0}, "each is the best that some may use"
    wider = rank_variants(variants, profiles, prices, users={SHARED: USERS[SHARED]}).best
    assert full(SHARED) not in wider, "who may use it may use the better one, too"
