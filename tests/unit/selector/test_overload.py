"""Tests of load shedding: fair shares under overload, limits of waiting, cached refusals, and turns of tenants."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from math import inf
from random import Random
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from schemas.errors import Overloaded, RefusalReason
from schemas.query import Query
from schemas.status import PartitionStatus, WorkerStatus
from selector.admission.overload import LoadShedder, Overload, RefusalCache
from selector.admission.tenant_shares import OTHERS, FairShares, TenantAccounts, fair_share
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.selection import choose
from tests.unit.selector.story import FAST, GOOD, NOW, instance, query, registered, state_of, status
from workers.serving.health import BatchMeter

CAPACITY = 8 / 2.75e-3
"""Inputs per second of FAST in full batches."""
MS = {FAST: 1.0, GOOD: 4.0}
BRIEF = (Phase.explicit, Phase.generate)
"""Phases without shrinking: a simulation takes half a second, so shrinking a failure would take minutes. Examples are
the same in each run, because the limits of these tests hold for most flows, not for all.
"""
WHOLE = settings().max_examples >= 100
"""True in the full Hypothesis profile; the quick one simulates each situation once."""
_STATUS_INTERVAL_S = 0.1
SECONDS = 2.5
UPGRADES, NO_UPGRADES = PolicyConfig(), PolicyConfig(upgrades=False)
INVENTED = "invented"
"""Tenant that uses two hundred names, each with little demand."""
_SETTLED_S = 1.0


class Flow(NamedTuple):
    """Queries of one tenant at a steady rate."""

    tenant: str | None
    rate: float
    latency_ms: float | None = 200.0
    min_accuracy: float | None = None


class Simulation:
    """Selector in front of one worker with FAST and GOOD loaded.

    On a `busy` machine batches take 0.7 to 1.3 times `slow` times the profiled time, and statuses arrive 20 ms late;
    each query takes `beside_s` more, as decoding and encoding do.
    """

    def __init__(
        self, config: PolicyConfig = UPGRADES, slow: float = 1.0, beside_s: float = 0.0, *, busy: bool = False
    ) -> None:
        self.state = state_of(registered(FAST, ms=MS[FAST], accuracy=0.8), registered(GOOD, ms=MS[GOOD], accuracy=0.9))
        self.config, self.slow, self.beside_s = config, slow, beside_s
        self.shedder = LoadShedder(config)
        self.now = self.free_at = NOW
        self.spoken_at = self.busy_s = 0.0
        self.queues: dict[str, deque[tuple[float, float]]] = {FAST: deque(), GOOD: deque()}
        """Send time and deadline of the waiting queries, by variant."""
        self.ends = defaultdict[str, int](int)
        self.asked, self.answered, self.refused = Counter[Flow](), Counter[Flow](), Counter[Flow]()
        self.reasons = Counter[RefusalReason | None]()
        self.in_time = self.late = self.invented = 0
        self._noise, self._delay_s = (0.3, 0.02) if busy else (0.0, 0.0)
        self._random = Random(1)
        self._meters = {name: BatchMeter() for name in MS}
        self._on_the_way = deque[tuple[float, WorkerStatus]]()
        self._speak()
        self.state.apply_status(self._on_the_way.pop()[1], NOW)

    @property
    def capacity(self) -> float:
        """Inputs per second of FAST in full batches."""
        return 1 / (self.slow * 2.75e-3 / 8 + self.beside_s)

    def run(self, flows: Iterable[Flow], seconds: float = SECONDS, settled_s: float = _SETTLED_S) -> None:
        """Send the flows for some seconds; counts begin after `settled_s`, when the shares have settled."""
        arrivals = sorted(
            (NOW + (number + 0.5) / flow.rate, place, flow)
            for place, flow in enumerate(flows)
            for number in range(int(flow.rate * seconds))
        )
        for at, _place, flow in arrivals:
            self.now = at
            self._work()
            if at - self.spoken_at >= _STATUS_INTERVAL_S:
                self._speak()
            while self._on_the_way and self._on_the_way[0][0] <= self.now:
                self.state.apply_status(self._on_the_way.popleft()[1], self.now)
            self._ask(flow, counts=at > NOW + settled_s)

    def query(self, flow: Flow) -> Query:
        made = query(sent=self.now, latency_ms=flow.latency_ms, min_accuracy=flow.min_accuracy)
        if flow.tenant == INVENTED:
            self.invented += 1
            return msgspec.structs.replace(made, tenant=f"invented-{self.invented % 200}")
        return msgspec.structs.replace(made, tenant=flow.tenant)

    def _work(self) -> None:
        """Compute batches, first come, first served; expired queries cost no time."""
        while self.free_at <= self.now and any(self.queues.values()):
            name = min((name for name, queue in self.queues.items() if queue), key=lambda name: self.queues[name][0])
            queue = self.queues[name]
            self._compute(name, [queue.popleft()[1] for _ in range(min(8, len(queue)))])
        if not any(self.queues.values()):
            self.free_at = max(self.free_at, self.now)

    def _compute(self, name: str, deadlines: list[float]) -> None:
        alive = [deadline for deadline in deadlines if deadline >= self.free_at]
        if alive:
            profiled_s = MS[name] / 1e3 * (0.75 + len(alive) / 4)
            took_s = profiled_s * self.slow * self._random.uniform(1 - self._noise, 1 + self._noise)
            self.busy_s += took_s + self.beside_s * len(alive)
            self.free_at += took_s + self.beside_s * len(alive)
            left = bool(self.queues[name])
            self._meters[name].computed(len(alive), took_s, profiled_s, self.free_at, left=left)
        in_time = sum(deadline >= self.free_at for deadline in alive)
        self.in_time, self.late = self.in_time + in_time, self.late + len(deadlines) - in_time

    def _speak(self) -> None:
        self.spoken_at = self.now
        said = [
            msgspec.structs.replace(
                instance(name, queued=len(queue), slowdown=max(meter.slowdown, 1.0)),
                partitions=(PartitionStatus(0, self.ends[name], self.ends[name]),),
                batch_size=meter.batch_size,
                batch_s=meter.batch_s,
                queue_slowdown=meter.queue_slowdown,
            )
            for (name, queue), meter in zip(self.queues.items(), self._meters.values(), strict=True)
        ]
        backlog_s = sum(len(queue) * MS[name] * 2.75e-3 / 8 for name, queue in self.queues.items())
        self._on_the_way.append((self.now + self._delay_s, status(*said, slots=1, backlog_s=backlog_s, at=self.now)))

    def _ask(self, flow: Flow, *, counts: bool) -> None:
        asked = self.query(flow)
        outcome = self.shedder.decide(asked, self.state, self.now)
        self.asked[flow] += counts
        if isinstance(outcome, Choice):
            self._send(outcome, asked)
            self.answered[flow] += counts
            return
        assert isinstance(outcome.error, Overloaded)
        self.reasons[outcome.error.reason] += 1
        self.refused[flow] += counts

    def _send(self, choice: Choice, asked: Query) -> None:
        name = choice.variant.name
        self.state.sent(choice.instance, choice.partition, 1, self.now, asked.due_s)
        self.state.acknowledged(choice.instance, choice.partition, self.ends[name], self.now)
        self.ends[name] += 1
        self.queues[name].append((self.now, asked.due_s))


def simulated(*flows: Flow, settled_s: float = _SETTLED_S, config: PolicyConfig = UPGRADES) -> Simulation:
    simulation = Simulation(config)
    simulation.run(flows, settled_s=settled_s)
    return simulation


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=20), st.floats(0, 1))
def test_fair_share_is_max_min(asked: list[float], part: float) -> None:
    given_out = sum(asked) * part
    share = fair_share(asked, given_out)
    assert sum(min(one, share) for one in asked) == pytest.approx(given_out)
    assert fair_share(asked, sum(asked) * 1.001) == inf


@settings(max_examples=10 if WHOLE else 1, deadline=None, phases=BRIEF, derandomize=True)
@given(st.lists(st.floats(20, 300), min_size=1, max_size=3), st.sampled_from([30.0, 200.0, None]))
def test_load_shedder_refuses_nothing_below_capacity(rates: list[float], latency_ms: float | None) -> None:
    found = simulated(*(Flow(f"t{n}", rate, latency_ms) for n, rate in enumerate(rates)))
    assert not found.refused
    assert not found.shedder.overloads
    assert found.late == 0


def test_load_shedder_drops_upgrades_before_queries() -> None:
    share_of_better: list[float] = []
    for load in (0.01, 0.3, 0.8):
        found = simulated(Flow(None, CAPACITY * load))
        assert not found.refused
        share_of_better.append(found.ends[GOOD] / sum(found.ends.values()))
    assert share_of_better[0] > 0.9
    assert share_of_better == sorted(share_of_better, reverse=True)
    assert share_of_better[2] < 0.1


@example(rate=11_861, patience_ms=None, small_rate=755, latency_ms=150)
@settings(max_examples=6 if WHOLE else 1, deadline=None, phases=BRIEF, derandomize=True)
@given(st.floats(5000, 12_000), st.sampled_from([100.0, 200.0, 1000.0, None]), st.floats(20, 800), st.floats(50, 300))
def test_load_shedder_protects_tenant_within_its_share(
    rate: float, patience_ms: float | None, small_rate: float, latency_ms: float
) -> None:
    flood, small = Flow("flood", rate, patience_ms), Flow("small", small_rate, latency_ms)
    # Before the overload is detected, a flood fills the queue for its latency (1 s at most); that is computed first.
    found = simulated(flood, small, settled_s=1.3)
    assert found.refused[small] <= 0.01 * found.asked[small]
    assert found.busy_s > 0.9 * 2.5, "the worker was left idle"


@settings(max_examples=4 if WHOLE else 1, deadline=None, phases=BRIEF, derandomize=True)
@given(st.lists(st.floats(3000, 6000), min_size=2, max_size=3))
def test_load_shedder_gives_floods_equal_shares(rates: list[float]) -> None:
    flows = [Flow(f"t{number}", rate) for number, rate in enumerate(rates)]
    found = simulated(*flows)
    answered = [found.answered[flow] for flow in flows]
    assert min(answered) > 0.65 * max(answered)
    assert sum(answered) > 0.9 * CAPACITY * 1.5
    assert found.late < 0.05 * sum(answered)
    assert found.ends[GOOD] < 0.05 * found.ends[FAST], "what is dearer was computed where the cheaper would do"


def test_load_shedder_shares_machine_time_not_queries() -> None:
    cheap, dear = Flow("cheap", 3000), Flow("dear", 3000, min_accuracy=0.85)
    found = simulated(cheap, dear)
    assert found.answered[cheap] == pytest.approx(4 * found.answered[dear], rel=0.3)
    assert RefusalReason.BEYOND_FAIR_SHARE in found.reasons


def test_load_shedder_refuses_dear_queries_of_a_tenant_first() -> None:
    cheap, dear = Flow(None, 2000), Flow(None, 1000, min_accuracy=0.85)
    found = simulated(cheap, dear)
    assert found.refused[cheap] < 0.05 * found.asked[cheap]
    assert found.refused[dear] > 0.5 * found.asked[dear]
    assert found.answered[dear] > 0, "what the cheap ones leave is used"
    assert found.reasons.keys() == {RefusalReason.INSTANCES_BUSY, RefusalReason.TOO_COSTLY}
    assert found.late < 0.05 * (found.answered[cheap] + found.answered[dear])


def test_load_shedder_keeps_patient_queries_of_lone_tenant() -> None:
    firm, patient = Flow(None, 4000), Flow(None, 500, latency_ms=None)
    found = simulated(firm, patient)
    assert found.refused[firm] > 0
    assert found.refused[patient] == 0


def test_load_shedder_forgets_ended_overload() -> None:
    found = simulated(Flow("flood", 6000))
    assert found.shedder.overloads
    later = found.now + 10
    asked = found.query(Flow("calm", 1))
    outcome = choose(asked, found.state, found.now, found.config)
    assert found.shedder.review(asked, outcome, found.state, later) is outcome
    assert not found.shedder.overloads


def test_load_shedder_ends_overload_that_its_limits_prolong() -> None:
    simulation = Simulation()
    simulation.shedder.overloads["digits"] = Overload(NOW, UPGRADES)
    dear = Flow(None, 0.4 * CAPACITY / 4, latency_ms=100, min_accuracy=0.85)
    simulation.run([Flow(None, 0.4 * CAPACITY, latency_ms=100), dear], seconds=3.0)
    assert simulation.shedder.overloads == {}


def test_overload_counts_queries_refused_by_gateway() -> None:
    """One query in ten gets through, and says so: without that its tenant would seem to ask for little."""
    overload = Overload(NOW, PolicyConfig())
    for tenth in range(200):
        now = NOW + tenth / 100
        overload.allowed_wait_s("flood", 1.0, 0.1, now, queries=10)
        overload.admit("flood", 1.0)
        if tenth % 2:
            overload.allowed_wait_s("small", 1.0, 0.1, now)
            overload.admit("small", 1.0)
    later = NOW + 2
    assert overload.allowed_wait_s("flood", 1.0, 0.1, later) < overload.allowed_wait_s("small", 1.0, 0.1, later)


def test_overload_bounds_tenant_count() -> None:
    overload = Overload(NOW, PolicyConfig(tenants=("acme", "globex"), max_unlisted_tenants=5))
    for number in range(10_000):
        now = NOW + number / 1000
        overload.allowed_wait_s(f"t{number}", 1.0, 0.1, now)
        overload.admit(f"t{number}", 1.0)
        overload.allowed_wait_s("acme", 1.0, 0.1, now)
        assert overload.tenant_count <= 5 + 1 + 1


@pytest.mark.parametrize("most", [0, 2])
def test_load_shedder_protects_listed_tenant_from_unlisted(most: int) -> None:
    flood, small = Flow(INVENTED, 8000), Flow("acme", 600)
    listed = PolicyConfig(tenants=("acme",), max_unlisted_tenants=most)
    found = simulated(flood, small, config=listed)
    assert found.refused[small] <= 0.01 * found.asked[small]
    assert found.busy_s > 0.9 * 2.5, "the worker was left idle"


@pytest.mark.parametrize(("slow", "beside_s"), [(1.0, 0.0), (2.0, 0.0), (1.0, 2e-4), (1.0, 4e-4), (2.0, 5e-4)])
@pytest.mark.parametrize(("times", "latency_ms"), [(2.0, 250.0), (5.0, 100.0)])
def test_overload_on_slow_worker_uses_its_capacity(
    slow: float, beside_s: float, times: float, latency_ms: float
) -> None:
    found = Simulation(NO_UPGRADES, slow, beside_s, busy=True)
    found.run([Flow(None, times * found.capacity, latency_ms)])
    assert found.in_time > 0.85 * found.capacity * SECONDS


def test_overload_on_slow_worker_serves_fair_share() -> None:
    found = Simulation(NO_UPGRADES, 1.0, 4e-4, busy=True)
    flood, small = Flow("flood", 5 * found.capacity), Flow("small", 0.1 * found.capacity)
    found.run([flood, small])
    assert found.refused[small] <= 0.01 * found.asked[small]
    assert found.in_time > 0.85 * found.capacity * SECONDS


LATENCY_MS = 200.0
REFUSAL = Refusal(Overloaded())


def asked(after_s: float = 0.0, latency_ms: float | None = LATENCY_MS, tenant: str | None = None) -> Query:
    return msgspec.structs.replace(query(sent=NOW + after_s, latency_ms=latency_ms), tenant=tenant)


@pytest.mark.parametrize(
    ("found", "after_s", "is_alike"),
    [
        (asked(0.001), 0.001, True),
        (asked(), 0.003, True),
        (asked(), 0.005, False),
        (query(sent=NOW, latency_ms=LATENCY_MS, batch=2), 0.001, False),
        (query(sent=NOW, latency_ms=LATENCY_MS, min_accuracy=0.5), 0.001, False),
        (asked(tenant="another"), 0.001, False),
        (asked(after_s=0.1), 0.001, False),
        (asked(after_s=-0.2), 0.001, False),
        (asked(latency_ms=None), 0.001, False),
    ],
    ids=["alike", "soon", "later", "larger", "other needs", "other tenant", "due later", "late", "no deadline"],
)
def test_refusal_cache_finds_similar_query_for_a_while(found: Query, after_s: float, is_alike: bool) -> None:
    cache = RefusalCache()
    cache.keep(asked(), REFUSAL, NOW)
    assert cache.find(found, NOW + after_s) is (REFUSAL if is_alike else None)


def test_refusal_cache_separates_queries_without_deadline() -> None:
    cache = RefusalCache()
    cache.keep(asked(latency_ms=None), REFUSAL, NOW)
    assert cache.find(asked(1.0, latency_ms=None), NOW + 0.009) is REFUSAL
    assert cache.find(asked(1.0, latency_ms=None), NOW + 0.011) is None
    assert cache.find(asked(), NOW) is None


def test_refusal_cache_is_bounded_for_many_tenants() -> None:
    cache = RefusalCache()
    for number in range(10_000):
        cache.keep(asked(tenant=f"t{number}"), REFUSAL, NOW)
    assert len(cache) <= 256


def test_load_shedder_loads_variant_again_as_soon_as_its_worker_is_silent() -> None:
    state = state_of(registered(FAST, load_s=1.0))
    state.apply_status(status(instance(FAST)), NOW)
    state.apply_status(msgspec.structs.replace(status(worker="cpu-1"), interval_ms=1000.0), NOW)
    outcome = LoadShedder(PolicyConfig()).decide(asked(1.01, latency_ms=60_000), state, NOW + 1.01)
    assert isinstance(outcome, Choice)
    assert outcome.instance is None


def test_load_shedder_accepts_soon_after_capacity_is_free() -> None:
    state = state_of(registered(FAST, ms=10.0))
    shedder = LoadShedder(PolicyConfig())
    state.apply_status(status(instance(FAST, queued=1000), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW), Refusal)
    state.apply_status(status(instance(FAST, queued=0), slots=1), NOW)
    assert isinstance(shedder.decide(asked(), state, NOW + 0.001), Refusal), (
        "a similar query was refused a millisecond ago"
    )
    assert isinstance(shedder.decide(asked(0.01), state, NOW + 0.01), Choice)


costs = st.lists(st.floats(0.001, 10.0), min_size=1, max_size=40)


def turns(shares: FairShares, queries: dict[str, list[float]]) -> list[tuple[str, float]]:
    """Return tenants and costs in the order of their turns, until one tenant has no queries left."""
    left = {tenant: list(reversed(each)) for tenant, each in queries.items()}
    order: list[tuple[str, float]] = []
    while all(left.values()):
        shares.begin(left.keys())
        tenant = min(left, key=shares.given)
        cost = left[tenant].pop()
        shares.give(tenant, cost)
        order.append((tenant, cost))
    return order


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), costs, min_size=1))
def test_fair_shares_differ_by_no_more_than_a_query(queries: dict[str, list[float]]) -> None:
    sums = dict.fromkeys(queries, 0.0)
    most = max(max(each) for each in queries.values())
    for tenant, cost in turns(FairShares(TenantAccounts()), queries):
        sums[tenant] += cost
        assert max(sums.values()) - min(sums.values()) <= most + 1e-6


def test_fair_shares_group_unlisted_tenants() -> None:
    accounts = TenantAccounts(["acme"], most_unlisted=2)
    names = [f"invented-{number}" for number in range(5)]
    found = [accounts.of(name) for name in [*names, None, "acme"]]
    assert found == [names[0], names[1], OTHERS, OTHERS, OTHERS, OTHERS, "acme"]
    FairShares(accounts).begin([names[1], OTHERS])
    assert [accounts.of(name) for name in (names[4], names[1], names[0])] == [names[4], names[1], OTHERS]


@given(costs, costs)
def test_fair_shares_keep_no_credit_or_debt(first: list[float], second: list[float]) -> None:
    shares = FairShares(TenantAccounts())
    for cost in first:
        shares.begin(["busy"])
        shares.give("busy", cost)
    shares.begin(["busy", "returns"])
    assert shares.given("returns") == shares.given("busy"), "who had nothing begins with as much as the others"
    for cost in second:
        shares.give("returns", cost)
    shares.begin(["busy"])
    shares.begin(["busy", "returns"])
    assert shares.given("returns") == shares.given("busy"), "and owes nothing when it comes back"
