"""Tests of free upgrades on a shared machine: fewer as it fills, none when it is full, and no oscillation."""

from itertools import pairwise
from math import exp

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selector.policy import selection as policy
from selector.policy.choice import Choice, PolicyConfig
from selector.policy.cluster_state import ClusterState
from selector.policy.entities import Instance
from selector.policy.prediction import cpu_share, upgraded_share
from selector.policy.selection import choose
from tests.unit.selector.story import FAST, GOOD, NOW, instance, query, registered, state_of, status, three

LIMIT = PolicyConfig().upgrade_cpu_limit


def machine(busy: float, *, cpus: float = 4.0) -> ClusterState:
    """Return a state of two variants on a machine whose used share of CPU time is `busy`."""
    where = three()
    said = msgspec.structs.replace(status(instance(FAST), instance(GOOD)), cpus=cpus, cpu_busy=busy)
    where.apply_status(said, NOW)
    return where


def upgraded(where: ClusterState, *, queries: int = 400) -> float:
    """Return the share of queries that are upgraded now."""
    outcomes = [choose(query(id=f"q-{n}", latency_ms=100), where, NOW, PolicyConfig()) for n in range(queries)]
    return sum(isinstance(outcome, Choice) and outcome.upgraded for outcome in outcomes) / queries


def test_upgrades_decrease_as_the_machine_fills() -> None:
    shares = [upgraded(machine(LIMIT * step / 20)) for step in range(21)]
    assert shares[0] == 1.0
    assert shares[-1] == upgraded(machine(1.0)) == 0.0
    assert all(less <= more for more, less in pairwise(shares))
    assert max(more - less for more, less in pairwise(shares)) < 0.3, "there is a cliff, at which they come and go"


def test_upgrades_continue_if_cpu_use_is_unknown() -> None:
    assert upgraded(machine(0.99, cpus=0.0)) == 1.0


def test_upgrades_are_limited_by_their_predicted_cpu_use() -> None:
    where = machine(0.3, cpus=2.0)
    worker = where.workers["cpu-0"]
    assert upgraded(where) == 1.0
    worker.sends.per_s = 240.0  # of 4 ms each: half of two CPUs
    assert upgraded(where) == pytest.approx((LIMIT - 0.3) / 0.48, abs=0.06)
    worker.cpu_busy = 0.6
    assert upgraded(where) == pytest.approx((LIMIT - 0.6) / 0.48, abs=0.08)


def test_upgrade_examines_few_of_many_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"v{place:02}.onnx-fp32.cpu" for place in range(60)]
    where = state_of(*(registered(name, ms=1 + n / 10, accuracy=0.3 + n / 100) for n, name in enumerate(names)))
    said = status(*(instance(name) for name in names))
    where.apply_status(msgspec.structs.replace(said, cpus=4.0, cpu_busy=1.0), NOW)
    examined: list[Instance] = []

    def counted(running: Instance, batch: int, now: float, cpu_limit: float) -> float:
        examined.append(running)
        return upgraded_share(running, batch, now, cpu_limit)

    monkeypatch.setattr(policy, "upgraded_share", counted)
    outcome = choose(query(latency_ms=100), where, NOW, PolicyConfig())
    assert isinstance(outcome, Choice)
    assert (outcome.variant.name, len(examined)) == (names[0], 16)
    choose(query(latency_ms=100), where, NOW, PolicyConfig())
    assert len(examined) == 16, "it searched again where none could be upgraded just before"
    where.apply_status(msgspec.structs.replace(said, cpus=4.0, cpu_busy=0.0), NOW + 0.1)
    outcome = choose(query(latency_ms=200), where, NOW + 0.1, PolicyConfig())
    assert isinstance(outcome, Choice)
    assert outcome.upgraded


@given(
    base=st.floats(0.0, 1.0),
    cost_ms=st.floats(0.0, 2.0),
    rate=st.floats(1.0, 240.0),
    begin=st.floats(0.0, 1.0),
)
def test_upgraded_share_settles_with_wrong_profile(base: float, cost_ms: float, rate: float, begin: float) -> None:
    """CPU use is reported each 100 ms, smoothed over half a second; variants cost more than profiled."""
    where = machine(begin, cpus=2.0)
    worker = where.workers["cpu-0"]
    worker.sends.per_s = rate
    taker = worker.instances[GOOD]
    shares: list[float] = []
    for _ in range(200):
        shares.append(cpu_share(taker, taker.model.batch_s(1), LIMIT))
        taken = base + shares[-1] * rate * (taker.model.batch_s(1) + cost_ms / 1e3) / worker.cpus
        worker.cpu_busy += (1 - exp(-0.1 / 0.5)) * (min(taken, 1.0) - worker.cpu_busy)
    assert max(shares[-20:]) - min(shares[-20:]) < 0.02
    if base >= LIMIT:
        assert shares[-1] < 0.02
