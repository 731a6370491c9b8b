"""Tests of load shedding: fair shares under overload, limits of waiting, and the cache of refusals."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from schemas.errors import Overloaded, RefusalReason
from schemas.query import Query
from schemas.status import InstanceStatus, PartitionStatus
from selector.admission.overload import LoadShedder, Overload, RefusalCache
from selector.admission.tenant_shares import fair_share
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.selection import choose
from tests.unit.selector.story import FAST, GOOD, NOW, instance, query, registered, state_of, status

CAPACITY = 8 / 2.75e-3
"""Inputs per second of FAST in full batches."""
MS = {FAST: 1.0, GOOD: 4.0}
BRIEF = (Phase.explicit, Phase.reuse, Phase.generate)
"""Phases without shrinking: a simulation takes half a second, so shrinking a failure would take minutes."""
WHOLE = settings().max_examples >= 100
"""True in the full Hypothesis profile; the quick one simulates each situation once."""
_STATUS_INTERVAL_S = 0.1
_DEFAULT = PolicyConfig()
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
    """Selector in front of one worker with FAST and GOOD loaded."""

    def __init__(self, config: PolicyConfig) -> None:
        self.state = state_of(registered(FAST, ms=MS[FAST], accuracy=0.8), registered(GOOD, ms=MS[GOOD], accuracy=0.9))
        self.config = config
        self.shedder = LoadShedder(config)
        self.now = NOW
        self.ends = defaultdict[str, int](int)
        self.queues: dict[str, deque[tuple[float, float]]] = {FAST: deque(), GOOD: deque()}
        """Send time and deadline of the waiting queries, by variant."""
        self.free_at = NOW
        self.busy_s = 0.0
        self.spoken_at = 0.0
        self.asked = Counter[Flow]()
        self.answered = Counter[Flow]()
        self.refused = Counter[Flow]()
        self.reasons = Counter[RefusalReason | None]()
        self.late = 0
        self.invented = 0

    def run(self, flows: Iterable[Flow], seconds: float, settled_s: float = _SETTLED_S) -> None:
        """Send the flows for some seconds; counts begin after `settled_s`, when the shares have settled."""
        arrivals = sorted(
            (NOW + (number + 0.5) / flow.rate, place, flow)
            for place, flow in enumerate(flows)
            for number in range(int(flow.rate * seconds))
        )
        for at, _place, flow in arrivals:
            self.now = at
            self.work()
            if at - self.spoken_at >= _STATUS_INTERVAL_S:
                self.speak()
            self.ask(flow, counts=at > NOW + settled_s)

    def work(self) -> None:
        """Compute batches, first come, first served; expired queries cost no time."""
        while self.free_at <= self.now and any(self.queues.values()):
            name = min((name for name, queue in self.queues.items() if queue), key=lambda name: self.queues[name][0])
            queue = self.queues[name]
            batch = [queue.popleft() for _ in range(min(8, len(queue)))]
            alive = sum(deadline >= self.free_at for _sent, deadline in batch)
            took_s = MS[name] / 1e3 * (0.75 + alive / 4) if alive else 0.0
            self.free_at += took_s
            self.busy_s += took_s
            self.late += sum(deadline < self.free_at for _sent, deadline in batch)
        if not any(self.queues.values()):
            self.free_at = max(self.free_at, self.now)

    def speak(self) -> None:
        self.spoken_at = self.now
        said: list[InstanceStatus] = []
        for name, queue in self.queues.items():
            size = min(max(len(queue), 1), 8)
            said.append(
                msgspec.structs.replace(
                    instance(name, queued=len(queue)),
                    partitions=(PartitionStatus(0, self.ends[name], self.ends[name]),),
                    batch_size=float(size),
                    batch_s=MS[name] / 1e3 * (0.75 + size / 4),
                )
            )
        backlog_s = sum(len(queue) * MS[name] * 2.75e-3 / 8 for name, queue in self.queues.items())
        self.state.apply_status(status(*said, slots=1, backlog_s=backlog_s, at=self.now), self.now)

    def ask(self, flow: Flow, *, counts: bool) -> None:
        asked = self.query(flow)
        outcome = self.shedder.decide(asked, self.state, self.now)
        self.asked[flow] += counts
        if isinstance(outcome, Choice):
            self.send(outcome, asked)
            self.answered[flow] += counts
            return
        assert isinstance(outcome.error, Overloaded)
        self.reasons[outcome.error.reason] += 1
        self.refused[flow] += counts

    def query(self, flow: Flow) -> Query:
        made = query(sent=self.now, latency_ms=flow.latency_ms, min_accuracy=flow.min_accuracy)
        if flow.tenant == INVENTED:
            self.invented += 1
            return msgspec.structs.replace(made, tenant=f"invented-{self.invented % 200}")
        return msgspec.structs.replace(made, tenant=flow.tenant)

    def send(self, choice: Choice, asked: Query) -> None:
        name = choice.variant.name
        self.state.sent(choice.instance, choice.partition, 1, self.now, asked.due_s)
        self.state.acknowledged(choice.instance, choice.partition, self.ends[name], self.now)
        self.ends[name] += 1
        deadline = asked.deadline_ms / 1000 if asked.deadline_ms else float("inf")
        self.queues[name].append((self.now, deadline))


def simulated(
    *flows: Flow, seconds: float = 2.5, settled_s: float = _SETTLED_S, config: PolicyConfig = _DEFAULT
) -> Simulation:
    simulation = Simulation(config)
    simulation.run(flows, seconds, settled_s)
    return simulation


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=20), st.floats(0, 1))
def test_fair_share_is_max_min(asked: list[float], part: float) -> None:
    given_out = sum(asked) * part
    share = fair_share(asked, given_out)
    assert sum(min(one, share) for one in asked) == pytest.approx(given_out)
    assert fair_share(asked, sum(asked) * 1.001) == inf


@settings(max_examples=10 if WHOLE else 1, deadline=None, phases=BRIEF)
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
@settings(max_examples=6 if WHOLE else 1, deadline=None, phases=BRIEF)
@given(st.floats(5000, 12_000), st.sampled_from([100.0, 200.0, 1000.0, None]), st.floats(20, 800), st.floats(50, 300))
def test_load_shedder_protects_tenant_within_its_share(
    rate: float, patience_ms: float | None, small_rate: float, latency_ms: float
) -> None:
    flood, small = Flow("flood", rate, patience_ms), Flow("small", small_rate, latency_ms)
    # Before the overload is detected, a flood fills the queue for its latency (1 s at most); that is computed first.
    found = simulated(flood, small, settled_s=1.3)
    assert found.refused[small] <= 0.01 * found.asked[small]
    assert found.busy_s > 0.9 * 2.5, "the worker was left idle"


@settings(max_examples=4 if WHOLE else 1, deadline=None, phases=BRIEF)
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
    simulation = Simulation(_DEFAULT)
    simulation.shedder.overloads["digits"] = Overload(NOW, _DEFAULT)
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


LATENCY_MS = 200.0
REFUSAL = Refusal(Overloaded())


def asked(after_s: float = 0.0, latency_ms: float | None = LATENCY_MS, tenant: str | None = None) -> Query:
    return msgspec.structs.replace(query(sent=NOW + after_s, latency_ms=latency_ms), tenant=tenant)


def refused() -> RefusalCache:
    cache = RefusalCache()
    cache.keep(asked(), REFUSAL, NOW)
    return cache


def test_refusal_cache_finds_similar_query() -> None:
    assert refused().find(asked(0.001), NOW + 0.001) is REFUSAL


@pytest.mark.parametrize(
    "found",
    [
        query(sent=NOW, latency_ms=LATENCY_MS, batch=2),
        query(sent=NOW, latency_ms=LATENCY_MS, min_accuracy=0.5),
        asked(tenant="another"),
        asked(after_s=0.1),
        asked(after_s=-0.2),
    ],
)
def test_refusal_cache_ignores_different_query(found: Query) -> None:
    assert refused().find(found, NOW + 0.001) is None


def test_refusal_cache_expires_after_share_of_deadline() -> None:
    assert refused().find(asked(), NOW + 0.003) is REFUSAL
    assert refused().find(asked(), NOW + 0.005) is None


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
