"""Tests of eviction: idle variants with the lowest cost of a miss make room."""

from collections.abc import Mapping
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from autoscaler.decide.decide import decide
from autoscaler.decide.plan import ScalePlan
from autoscaler.decide.snapshot import ClassLoad, ClusterSnapshot
from schemas.rows.catalog import Profile
from schemas.status import InstanceState
from tests.example_rows import a_worker, an_instance
from tests.unit.autoscaler.decide.snapshots import LIMITS, full, load, profile, ranking, registered

Value = TypeVar("Value")
DIGITS = [profile("digits-a", 0.9, 0.002), profile("digits-b", 0.8, 0.001)]
ASKED = profile("mnist-a")


def plan(
    known: list[Profile],
    placed: list[Profile],
    *classes: ClassLoad,
    states: Mapping[str, InstanceState] | None = None,
    **rest: Any,
) -> ScalePlan:
    """Decide for one worker without free memory."""
    rows = [an_instance(found.variant) for found in placed]
    snapshot = ClusterSnapshot(
        workers=(a_worker(memory_bytes=sum(found.memory_bytes for found in placed)),),
        instances=tuple(
            replace(row, state=by_name(states or {}).get(row.variant, InstanceState.ACTIVE)) for row in rows
        ),
        observed_s=1000.0,
        classes=classes,
        **rest,
    )
    return decide(registered(known), ranking(known, snapshot), snapshot, LIMITS)


def by_name(values: Mapping[str, Value]) -> dict[str, Value]:
    return {full(name): value for name, value in values.items()}


def changes(found: ScalePlan) -> list[tuple[str, str]]:
    return [(change.action, change.variant) for change in found.changes]


def demanded(rates: dict[str, float], idle: dict[str, float], slow: float = 0.1) -> list[tuple[str, str]]:
    """Return the changes if `mnist-a` is demanded and `digits-a` takes `slow` seconds to load."""
    known = [profile("digits-a", 0.9, 0.002, load_s=slow), DIGITS[1], ASKED]
    found = plan(
        known, known[:2], demand_age_s=by_name({"mnist-a": 0.0}), idle_s=by_name(idle), use_rates=by_name(rates)
    )
    return changes(found)


def evicted(name: str, placed: str = "mnist-a") -> list[tuple[str, str]]:
    return [("evict", full(name)), ("place", full(placed))]


def test_eviction_prefers_lower_use_rate() -> None:
    idle = {"digits-a": 60.0, "digits-b": 30.0}
    assert demanded({"digits-a": 0.2, "digits-b": 0.1}, idle) == evicted("digits-b")
    assert demanded({"digits-a": 0.1, "digits-b": 0.2}, idle) == evicted("digits-a")
    assert demanded({}, idle) == evicted("digits-a"), "the longest idle, where nobody knows how often it is asked for"


def test_eviction_weighs_load_time() -> None:
    rates, idle = {"digits-a": 0.1, "digits-b": 0.2}, {"digits-a": 60.0, "digits-b": 60.0}
    assert demanded(rates, idle, slow=0.49) == evicted("digits-a")
    assert demanded(rates, idle, slow=0.51) == evicted("digits-b")


def test_eviction_needs_idle_time_of_several_loads() -> None:
    assert demanded({}, {"digits-a": 1.9, "digits-b": 1.9}) == []
    assert demanded({}, {"digits-a": 2.0, "digits-b": 1.9}) == evicted("digits-a")
    assert demanded({}, {"digits-a": 11.9, "digits-b": 1.9}, slow=3.0) == []
    assert demanded({}, {"digits-a": 12.0, "digits-b": 1.9}, slow=3.0) == evicted("digits-a")


@pytest.mark.parametrize("asked", [{}, {"mnist-a": 9.0}])
def test_eviction_makes_room_for_latest_demand(asked: dict[str, float]) -> None:
    """Queries that wait in the topic of a variant keep its demand alive, but do not make it a later one."""
    found = plan(
        [DIGITS[0], profile("mnist-a"), profile("mnist-b", 0.8)],
        DIGITS[:1],
        demand_age_s=by_name({"mnist-a": 0.0 if asked else 9.0, "mnist-b": 8.0}),
        asked_age_s=by_name(asked),
        idle_s=by_name({"digits-a": 60.0}),
        use_rates=by_name({"mnist-a": 0.2}),
    )
    assert changes(found) == evicted("digits-a", "mnist-b")
    assert full("mnist-a") in found.unplaced


def test_eviction_of_equal_costs_takes_the_larger() -> None:
    large = profile("digits-a", 0.9, 0.002, memory=20)
    names = by_name({"digits-a": 60.0, "digits-b": 60.0})
    found = plan([large, DIGITS[1], ASKED], [large, DIGITS[1]], demand_age_s=by_name({"mnist-a": 0.0}), idle_s=names,
                 use_rates=by_name({"digits-a": 0.15, "digits-b": 0.1}))  # fmt: skip
    assert changes(found) == evicted("digits-a")


def test_eviction_for_named_target_needs_higher_use_rate() -> None:
    lately = load("mnist", 0.1, target=full("mnist-a"))
    known, idle = [*DIGITS, ASKED], by_name({"digits-a": 60.0, "digits-b": 30.0})
    rarer = plan(
        known, DIGITS, lately, idle_s=idle, use_rates=by_name({"digits-a": 0.2, "digits-b": 0.3, "mnist-a": 0.1})
    )
    assert rarer.changes == ()
    assert list(rarer.unplaced) == [full("mnist-a")]
    oftener = plan(known, DIGITS, lately, idle_s=idle, use_rates=by_name({"digits-a": 0.2, "mnist-a": 0.3}))
    assert changes(oftener) == evicted("digits-b")


def test_eviction_for_load_without_target_needs_no_use_rate() -> None:
    known, idle = [*DIGITS, ASKED], by_name({"digits-a": 60.0, "digits-b": 30.0})
    found = plan(known, DIGITS, load("mnist", 50.0), idle_s=idle, use_rates=by_name({"digits-a": 0.2, "digits-b": 0.3}))
    assert changes(found) == evicted("digits-a")


def test_eviction_spares_demanded_until_loaded() -> None:
    known = [DIGITS[0], profile("mnist-a"), profile("mnist-b", 0.8)]
    demand = by_name({"mnist-a": 9.0, "mnist-b": 3.0})
    busy, idle = by_name({"digits-a": 1.0}), by_name({"digits-a": 9.0})
    two = [DIGITS[0], known[1]]
    loading = plan(known, two, states={"mnist-a": InstanceState.LOADING}, demand_age_s=demand, idle_s=busy)
    assert loading.changes == ()
    both = plan(known, DIGITS[:1], use_rates=by_name({"mnist-b": 1.0}), demand_age_s=demand, idle_s=idle)
    assert changes(both) == evicted("digits-a", "mnist-b"), "one was displaced by the other before it was loaded"
    loaded = plan(known, two, demand_age_s=demand, idle_s=busy)
    assert changes(loaded) == evicted("mnist-a", "mnist-b")
