"""What a gateway has on its way is bounded by what comes late, and by nothing while nothing does."""

import heapq
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.concurrency import ConcurrencyLimits, QueryKind
from schemas.errors import Overloaded
from schemas.needs import Needs
from schemas.query import MAX_TURNED_AWAY, Query

NOW = 1000.0


def query(tenant: str | None = None, latency_ms: float | None = 50.0, *, allow_late: bool = False) -> Query:
    return Query(
        id="q", task="digits", reply_to="r", sent_ms=5.0, tenant=tenant,
        deadline_ms=None if latency_ms is None else 5.0 + latency_ms,
        needs=Needs(latency_ms=latency_ms, allow_late=allow_late),
    )  # fmt: skip


class Seen(NamedTuple):
    """What became of the queries that one tenant sent."""

    sent: int
    accepted: int
    in_time: int


class Arrival(NamedTuple):
    """One query to come, in seconds since the start."""

    at: float
    tenant: str | None = None


def poisson(rate: float, seconds: float, tenant: str | None = None, seed: int = 1) -> list[Arrival]:
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds * 2))
    return [Arrival(float(at), tenant) for at in np.cumsum(gaps) if at < seconds]


def simulate(
    arrivals: list[Arrival], capacity: float, *, least_s: float, stall: tuple[float, float] = (inf, inf),
    latency_ms: float = 50.0, after_s: float = 0.0,
) -> dict[str | None, Seen]:  # fmt: skip
    """Ask something that works off so many a second, one after the other, each of which takes `least_s` besides.

    Between the times of `stall` it stands. Counted is what comes after `after_s`.
    """
    limits, ways, seen = ConcurrencyLimits(), count(), {}
    free_at, leaving = 0.0, []  # heap of: when it leaves, a number, its kind, when it came
    budget_s = latency_ms / 1e3

    def leave(until: float) -> None:
        while leaving and leaving[0][0] <= until:
            at, _, kind, came, tenant = heapq.heappop(leaving)
            limits.leave(kind)
            late = at - came > budget_s
            kind.answered(at - came, budget_s, NOW + at)
            if came >= after_s:
                seen[tenant] = seen[tenant]._replace(in_time=seen[tenant].in_time + (not late))

    for at, tenant in sorted(arrivals):
        leave(at)
        before = seen.setdefault(tenant, Seen(0, 0, 0))
        try:
            kind = limits.enter(query(tenant, latency_ms), NOW + at)
        except Overloaded:
            accepted = 0
        else:
            accepted = 1
            begins = max(free_at, at)
            if stall[0] <= begins < stall[1]:
                begins = stall[1]
            free_at = begins + 1 / capacity
            heapq.heappush(leaving, (free_at + least_s, next(ways), kind, at, tenant))
        if at >= after_s:
            seen[tenant] = Seen(before.sent + 1, before.accepted + accepted, before.in_time)
    leave(inf)
    return seen


@pytest.mark.parametrize("beyond", [1.3, 2.0, 5.0])
@pytest.mark.parametrize("capacity", [400.0, 4000.0])
def test_what_is_accepted_of_too_much_is_in_time_and_no_less_than_what_can_be_done(
    capacity: float, beyond: float
) -> None:
    seen = simulate(poisson(beyond * capacity, 6.0), capacity, least_s=0.004, after_s=1.0)[None]
    assert seen.in_time >= 0.95 * seen.accepted
    assert seen.accepted >= 0.9 * capacity * 5.0


def test_too_much_for_long_is_as_too_much_for_a_moment() -> None:
    seen = simulate(poisson(1000, 90.0), 500.0, least_s=0.004, after_s=60.0)[None]
    assert seen.in_time >= 0.95 * seen.accepted
    assert seen.accepted >= 0.9 * 500 * 30.0


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_nothing_is_refused_while_nothing_is_late(share: float) -> None:
    seen = simulate(poisson(share * 2000, 5.0), 2000.0, least_s=0.004)[None]
    assert seen.sent == seen.accepted == seen.in_time


def test_a_burst_after_quiet_is_let_through() -> None:
    seen = simulate([*poisson(5, 3.0), *(Arrival(3.0) for _ in range(80))], 2000.0, least_s=0.004)[None]
    assert seen.accepted == seen.sent


def test_what_always_takes_nearly_all_of_its_time_is_taken_for_no_queue() -> None:
    """Of 50 ms each takes 47, some a little more: nothing waits, so nothing is to be had by refusing."""
    limits = ConcurrencyLimits()
    random = np.random.default_rng(2)
    on_the_way: list[tuple[float, QueryKind]] = []
    refused = 0
    for at, _ in poisson(1000, 5.0):
        while on_the_way and on_the_way[0][0] <= at:
            ended, kind = on_the_way.pop(0)
            limits.leave(kind)
            late = random.random() < 0.03
            kind.answered(0.051 if late else 0.047, 0.05, NOW + ended)
        try:
            kind = limits.enter(query(), NOW + at)
        except Overloaded:
            refused += 1
        else:
            assert kind is not None
            on_the_way.append((at + 0.047, kind))
    assert refused < 0.05 * 5000, refused


def test_after_a_stall_it_is_as_before_within_a_second() -> None:
    seen = simulate(poisson(3000, 6.0), 4000.0, least_s=0.004, stall=(2.0, 3.0), after_s=4.0)[None]
    assert seen.accepted >= 0.99 * seen.sent
    assert seen.in_time >= 0.99 * seen.sent


def test_a_second_in_which_nothing_is_late_or_refused_ends_the_limit() -> None:
    limits = ConcurrencyLimits()
    kind = limits.enter(query(), NOW)
    assert kind is not None
    kind.answered(0.004, 0.05, NOW)
    for number in range(200):  # twenty moments
        kind.answered(0.1, 0.05, NOW + number / 100)
    assert kind.limit < inf
    for number in range(120):
        kind.answered(0.01, 0.05, NOW + 2.0 + number / 100)
    assert kind.limit == inf


def test_a_limit_of_long_ago_refuses_no_burst() -> None:
    arrivals = [*poisson(8000, 3.0), *(Arrival(10.0) for _ in range(180))]
    seen = simulate(arrivals, 4000.0, least_s=0.004, after_s=9.0)[None]
    assert seen.accepted == seen.sent == 180


def test_a_small_tenant_beside_a_flood_is_not_refused() -> None:
    seen = simulate([*poisson(8000, 5.0, "flood"), *poisson(200, 5.0, "small", 2)], 4000.0, least_s=0.004, after_s=1.0)
    assert seen["small"].accepted == seen["small"].sent
    assert seen["small"].in_time >= 0.95 * seen["small"].sent


@pytest.mark.parametrize("asked", [query(latency_ms=None), query(allow_late=True)])
def test_what_may_come_late_is_bounded_by_nothing(asked: Query) -> None:
    limits = ConcurrencyLimits()
    assert [limits.enter(asked, NOW) for _ in range(100)] == [None] * 100
    limits.leave(None)


def refused_of(limits: ConcurrencyLimits, wanted: int) -> list[Overloaded]:
    refusals: list[Overloaded] = []
    for _ in range(wanted):
        try:
            limits.enter(query(), NOW + 0.2)
        except Overloaded as error:
            refusals.append(error)
    return refusals


def test_who_was_refused_is_told_of_by_the_next_and_knows_when_to_come_back() -> None:
    limits = ConcurrencyLimits()
    kind = limits.enter(query(), NOW)
    assert kind is not None
    kind.answered(0.004, 0.05, NOW)
    kind.answered(0.2, 0.05, NOW + 0.2)
    refusals = refused_of(limits, MAX_TURNED_AWAY + 100)
    assert len(refusals) > MAX_TURNED_AWAY
    assert {error.retry_after_s for error in refusals} == {kind.target_s}
    assert [kind.take_turned_away(), kind.take_turned_away()] == [MAX_TURNED_AWAY, 0]


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.floats(1, 1e5), st.booleans()), max_size=60))
def test_all_that_entered_has_left_whatever_the_order(steps: list[tuple[str | None, float, bool]]) -> None:
    limits = ConcurrencyLimits(most=3)
    inside: list[QueryKind | None] = []
    for tenant, latency_ms, leaves in steps:
        inside.append(limits.enter(query(tenant, latency_ms), NOW))
        if leaves:
            limits.leave(inside.pop(0))
    for kind in inside:
        limits.leave(kind)
    assert limits.in_flight == 0
