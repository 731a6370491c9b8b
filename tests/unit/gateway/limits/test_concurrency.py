"""Tests of `ConcurrencyLimits`: queries in flight are limited only while answers are late."""

import heapq
from itertools import count
from math import inf
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits.concurrency import ConcurrencyLimit, ConcurrencyLimits
from schemas.errors import Overloaded
from schemas.query import MAX_REJECTED_UPSTREAM, Needs, Query

NOW = 1000.0


def query(tenant: str | None = None, latency_ms: float | None = 50.0, *, allow_late: bool = False) -> Query:
    return Query(
        id="q", task="digits", reply_to="r", sent_ms=5.0, tenant=tenant,
        deadline_ms=None if latency_ms is None else 5.0 + latency_ms,
        needs=Needs(latency_ms=latency_ms, allow_late=allow_late),
    )  # fmt: skip


class Seen(NamedTuple):
    """Numbers of one tenant's queries."""

    sent: int
    accepted: int
    in_time: int


class Arrival(NamedTuple):
    """Arrival of a query, `at` seconds after the start."""

    at: float
    tenant: str | None = None


def poisson(rate: float, seconds: float, tenant: str | None = None, seed: int = 1) -> list[Arrival]:
    gaps = np.random.default_rng(seed).exponential(1 / rate, int(rate * seconds * 2))
    return [Arrival(float(at), tenant) for at in np.cumsum(gaps) if at < seconds]


def simulate(
    arrivals: list[Arrival], capacity: float, *, least_s: float, stall: tuple[float, float] = (inf, inf),
    latency_ms: float = 50.0, after_s: float = 0.0,
) -> dict[str | None, Seen]:  # fmt: skip
    """Simulate a server behind the limits, and return the numbers of queries by tenant.

    The server completes `capacity` queries per second, one after the other, and each takes `least_s` in addition. It
    stops between the times of `stall`. Only queries that arrive after `after_s` are counted.
    """
    limits, ways, seen = ConcurrencyLimits(), count(), {}
    free_at, leaving = 0.0, []  # heap of: time of leaving, number, kind, time of arrival, tenant
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


@pytest.mark.parametrize(
    ("capacity", "beyond", "seconds", "after_s"),
    [*((capacity, beyond, 6.0, 1.0) for capacity in (400.0, 4000.0) for beyond in (1.3, 2.0, 5.0)), (500, 2, 45, 30)],
)
def test_limits_keep_answers_in_time_under_overload(
    capacity: float, beyond: float, seconds: float, after_s: float
) -> None:
    seen = simulate(poisson(beyond * capacity, seconds), capacity, least_s=0.004, after_s=after_s)[None]
    assert seen.in_time >= 0.95 * seen.accepted
    assert seen.accepted >= 0.9 * capacity * (seconds - after_s)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_limits_refuse_nothing_while_answers_are_in_time(share: float) -> None:
    seen = simulate(poisson(share * 2000, 5.0), 2000.0, least_s=0.004)[None]
    assert seen.sent == seen.accepted == seen.in_time


def test_limits_accept_burst_after_idle_time() -> None:
    seen = simulate([*poisson(5, 3.0), *(Arrival(3.0) for _ in range(80))], 2000.0, least_s=0.004)[None]
    assert seen.accepted == seen.sent


def test_limits_ignore_constant_latency_near_deadline() -> None:
    """Each query takes 47 of its 50 ms, and some a little more. None waits, so refusals would gain nothing."""
    limits = ConcurrencyLimits()
    random = np.random.default_rng(2)
    on_the_way: list[tuple[float, ConcurrencyLimit]] = []
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


def test_limits_recover_from_stall_within_a_second() -> None:
    seen = simulate(poisson(3000, 6.0), 4000.0, least_s=0.004, stall=(2.0, 3.0), after_s=4.0)[None]
    assert seen.accepted >= 0.99 * seen.sent
    assert seen.in_time >= 0.99 * seen.sent


def test_limit_ends_after_a_second_without_late_answers() -> None:
    limits = ConcurrencyLimits()
    kind = limits.enter(query(), NOW)
    assert kind is not None
    kind.answered(0.004, 0.05, NOW)
    for number in range(200):  # twenty intervals of measurement
        kind.answered(0.1, 0.05, NOW + number / 100)
    assert kind.limit < inf
    for number in range(120):
        kind.answered(0.01, 0.05, NOW + 2.0 + number / 100)
    assert kind.limit == inf


def test_old_limit_refuses_no_burst() -> None:
    arrivals = [*poisson(8000, 3.0), *(Arrival(10.0) for _ in range(180))]
    seen = simulate(arrivals, 4000.0, least_s=0.004, after_s=9.0)[None]
    assert seen.accepted == seen.sent == 180


def test_limits_accept_small_tenant_beside_a_flood() -> None:
    seen = simulate([*poisson(8000, 5.0, "flood"), *poisson(200, 5.0, "small", 2)], 4000.0, least_s=0.004, after_s=1.0)
    assert seen["small"].accepted == seen["small"].sent
    assert seen["small"].in_time >= 0.95 * seen["small"].sent


@pytest.mark.parametrize("asked", [query(latency_ms=None), query(allow_late=True)])
def test_limits_exempt_queries_that_may_be_late(asked: Query) -> None:
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


def test_limits_count_refusals_and_name_retry_after() -> None:
    limits = ConcurrencyLimits()
    kind = limits.enter(query(), NOW)
    assert kind is not None
    kind.answered(0.004, 0.05, NOW)
    kind.answered(0.2, 0.05, NOW + 0.2)
    refusals = refused_of(limits, MAX_REJECTED_UPSTREAM + 100)
    assert len(refusals) > MAX_REJECTED_UPSTREAM
    assert {error.retry_after_s for error in refusals} == {kind.target_s}
    assert [kind.take_rejected_upstream(), kind.take_rejected_upstream()] == [MAX_REJECTED_UPSTREAM, 0]


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.floats(1, 1e5), st.booleans()), max_size=60))
def test_limits_count_no_query_after_all_have_left(steps: list[tuple[str | None, float, bool]]) -> None:
    limits = ConcurrencyLimits(most=3)
    inside: list[ConcurrencyLimit | None] = []
    for tenant, latency_ms, leaves in steps:
        inside.append(limits.enter(query(tenant, latency_ms), NOW))
        if leaves:
            limits.leave(inside.pop(0))
    for kind in inside:
        limits.leave(kind)
    assert limits.in_flight == 0
