"""Tests of `choose` on small cluster states, one situation each; `test_selection_properties.py` has its rules."""

from itertools import pairwise
from math import exp
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ErrorCode, Overloaded, RefusalReason, Unsatisfiable
from schemas.query import Mode, Query
from schemas.status import InstanceState, InstanceStatus
from selector.admission.received_query import error_result
from selector.dispatch.explanation import explain
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState
from selector.policy.prediction import cpu_share, drain_s
from selector.policy.selection import choose
from tests.unit.selector.story import (
    BEST,
    FAST,
    GOOD,
    NO_UPGRADES,
    NOW,
    chosen,
    explained,
    instance,
    query,
    refused,
    registered,
    send,
    state_of,
    status,
    three,
)

UPGRADES = PolicyConfig()
LIMIT = UPGRADES.upgrade_cpu_limit


def loaded(*instances: InstanceStatus, **said: Any) -> ClusterState:
    """Return the state of three variants whose worker says this."""
    where = three()
    where.apply_status(status(*instances, **said), NOW)
    return where


def apart(*instances: InstanceStatus) -> ClusterState:
    """Return the state of three variants with a worker for each of these instances."""
    where = three()
    for number, one in enumerate(instances):
        where.apply_status(status(one, worker=f"cpu-{number}"), NOW)
    return where


def full(queued: int) -> ClusterState:
    """Return a state with `queued` queries at each instance, in which FAST last computed full batches."""
    busy = msgspec.structs.replace(instance(FAST, queued=queued), batch_size=8.0, batch_s=2.75e-3)
    return loaded(busy, instance(GOOD, queued=queued))


def without_worker() -> ClusterState:
    where = state_of(registered("fast.onnx-fp32.cuda", hardware="cuda"), registered(GOOD, memory=2000))
    where.apply_status(status(memory=1000), NOW)
    return where


@pytest.mark.parametrize(
    ("where", "asked", "variant"),
    [
        pytest.param(three(), query(), FAST, id="the cheapest"),
        pytest.param(three(), query(min_accuracy=0.9), GOOD, id="the cheapest accurate one"),
        pytest.param(three(), query(target="good"), GOOD, id="the named one"),
        pytest.param(loaded(instance(FAST, slowdown=2.5), instance(GOOD)), query(latency_ms=100), FAST, id="slow"),
        pytest.param(loaded(instance(FAST, slowdown=30), instance(GOOD)), query(latency_ms=20), GOOD, id="too slow"),
        pytest.param(
            loaded(instance(FAST, state=InstanceState.LOADING), instance(GOOD)), query(), GOOD, id="one that serves"
        ),
        pytest.param(
            loaded(instance(FAST, queued=800), instance(GOOD), backlogs_s=(0.0, 0.27)),
            query(latency_ms=150), GOOD, id="a slot that the cheaper one cannot use",
        ),
        pytest.param(
            apart(instance(FAST, partitions=(0,), unread=160), instance(GOOD, partitions=(0,))),
            query(latency_ms=200), FAST, id="half of its queue is free",
        ),
        pytest.param(
            apart(instance(FAST, partitions=(0,), unread=160), instance(GOOD, partitions=(0,))),
            query(latency_ms=80), GOOD, id="half of its queue is taken",
        ),
        pytest.param(
            apart(instance(FAST, partitions=(0,), unread=160), instance(GOOD, partitions=(0,), unread=80)),
            query(latency_ms=80), FAST, id="both queues are long",
        ),
        pytest.param(full(8000), query(latency_ms=100, allow_late=True), FAST, id="late, the soonest"),
    ],
)  # fmt: skip
def test_choose_takes_loaded_variant(where: ClusterState, asked: Query, variant: str) -> None:
    choice = chosen(asked, where)
    assert (choice.variant.name, choice.instance is not None) == (variant, True)


@pytest.mark.parametrize(
    ("where", "asked", "reason", "wanted"),
    [
        pytest.param(full(400), query(latency_ms=20), RefusalReason.INSTANCES_BUSY, None, id="busy"),
        pytest.param(three(), query(latency_ms=60, sent=NOW - 1), RefusalReason.DEADLINE_PASSED, None, id="late"),
        pytest.param(three(), query(min_accuracy=0.99), RefusalReason.NEEDS_UNSATISFIABLE, None, id="unsatisfiable"),
        pytest.param(
            three(), query(min_accuracy=0.94, latency_ms=300), RefusalReason.NOT_LOADED, BEST, id="loads too long"
        ),
        pytest.param(without_worker(), query(latency_ms=5000), RefusalReason.NO_WORKER, None, id="no able worker"),
        pytest.param(three(), query(task="other"), None, None, id="unknown task"),
        pytest.param(three(), query(target="mistake"), None, None, id="unknown target"),
    ],
)
def test_refusal_reason_is_in_header_body_and_explanation(
    where: ClusterState, asked: Query, reason: RefusalReason | None, wanted: str | None
) -> None:
    outcome = choose(asked, where, NOW, UPGRADES)
    assert isinstance(outcome, Refusal)
    code = reason.code if reason else ErrorCode.UNKNOWN_TASK
    assert (outcome.error.code, outcome.error.reason) == (code, reason)
    assert (outcome.wanted and outcome.wanted.name) == wanted
    answer = error_result("results", "1", outcome.error, {})
    assert dict(answer.headers).get("infaas-reason") == (reason and reason.encode())
    assert msgspec.json.decode(answer.value or b"").get("reason") == reason
    assert msgspec.json.decode(explain(asked, where, NOW, UPGRADES, outcome)).get("refusal") == reason


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (query(min_accuracy=0.99), f"the nearest, {BEST}, has accuracy 0.9500 where 0.99 is required"),
        (query(min_accuracy=0.9, max_cost=1e-9), "USD per 1000 queries where 1e-09 is allowed"),
        (query(latency_ms=0.5), f"{FAST}, needs .* ms where 0.5 ms are allowed"),
    ],
)
def test_unsatisfiable_names_nearest_variant_and_its_gap(asked: Query, words: str) -> None:
    with pytest.raises(Unsatisfiable, match=words):
        raise refused(asked, three()).error
    assert "is registered yet" in str(refused(query(), state_of()).error)


def test_unsatisfiable_ignores_slow_hops() -> None:
    where = three()
    assert where.workers["cpu-0"].hop_s == where.hop_s
    for second in range(1, 60):  # statuses that take 0.2 s to arrive
        where.apply_status(status(instance(FAST), instance(GOOD)), NOW + second, 0.2)
    assert where.workers["cpu-0"].hop_s > where.hop_s
    assert isinstance(refused(query(latency_ms=60, sent=NOW + 59), where, now=NOW + 59).error, Overloaded)
    assert isinstance(refused(query(latency_ms=0.5, sent=NOW + 59), where, now=NOW + 59).error, Unsatisfiable)


def test_retry_after_is_time_until_the_backlog_is_computed() -> None:
    def retry_after_s(where: ClusterState, after_s: float = 0.0) -> float | None:
        return refused(query(latency_ms=20, sent=NOW + after_s), where, now=NOW + after_s).error.retry_after_s

    assert retry_after_s(full(80)) == pytest.approx(80 * 2.75e-3 / 8)
    assert retry_after_s(full(400)) == pytest.approx(400 * 2.75e-3 / 8)
    assert retry_after_s(full(400), 0.05) == pytest.approx(400 * 2.75e-3 / 8 - 0.05)
    fast = full(80).workers["cpu-0"].instances[FAST]
    assert drain_s([fast], 4, NOW + 10) == pytest.approx(1.75e-3), "the query's own time"
    unloaded = state_of(registered(BEST, ms=4, load_s=3.0))
    unloaded.apply_status(status(), NOW)
    assert retry_after_s(unloaded) == pytest.approx(3.0)
    error = Overloaded(reason=RefusalReason.INSTANCES_BUSY, retry_after_s=0.0101)
    assert dict(error_result("results", "1", error, {}).headers)["infaas-retry-after-ms"] == b"11", "rounded up"


def test_choose_skips_dearer_variant_on_overloaded_worker() -> None:
    where = loaded(instance(FAST), instance(GOOD), backlogs_s=(0.02, 0.02))
    send(where, chosen(query(target=FAST), where), 500)
    asked = query(latency_ms=150)
    assert isinstance(refused(query(latency_ms=150, target=FAST), where).error, Overloaded)
    assert chosen(query(latency_ms=150, target=GOOD), where).predicted_s < 0.15
    assert isinstance(refused(asked, where).error, Overloaded)
    where.apply_status(status(instance(GOOD), worker="cpu-1"), NOW)
    other = chosen(asked, where).instance
    assert other is not None
    assert other.worker.name == "cpu-1", "a worker with room takes what another has no time for"


def test_replicas_share_by_predicted_finish_and_partitions_take_turns() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(instance(FAST, partitions=(1, 3)), worker="a"), NOW)
    where.apply_status(status(instance(FAST, partitions=(0, 2), unread=10), worker="b"), NOW)
    seen = list[tuple[str, int]]()
    for _ in range(60):
        choice = chosen(query(), where)
        assert choice.instance is not None
        seen.append((choice.instance.worker.name, choice.partition.number))
        send(where, choice)
    assert seen[:10] == [("a", 1), ("a", 3)] * 5
    assert 15 < sum(worker == "b" for worker, _ in seen) < 30


def test_choose_skips_silent_and_leaving_workers() -> None:
    where = three()
    assert chosen(query(), where, now=NOW + 0.9).instance is not None
    assert chosen(query(), where, now=NOW + 1.1).instance is None
    where.expire(NOW + 1.1)
    assert not where.workers
    where.apply_status(msgspec.structs.replace(status(instance(FAST)), interval_ms=1000.0), NOW)
    assert chosen(query(), where, now=NOW + 2.9).instance is not None, "three intervals of an idle worker"
    assert chosen(query(), where, now=NOW + 3.1).instance is None
    where.apply_status(status(instance(FAST), leaving=True), NOW + 4)
    assert chosen(query(), where, now=NOW + 4).instance is None


# -- free upgrades -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "latency_ms", "variant"),
    [
        pytest.param(three(), 100.0, GOOD, id="idle"),
        pytest.param(three(), 7.0, FAST, id="late"),
        pytest.param(loaded(instance(FAST), instance(GOOD, queued=4)), 100.0, FAST, id="busy"),
        pytest.param(loaded(instance(FAST), instance(GOOD, slowdown=2.5)), 100.0, FAST, id="slow"),
        pytest.param(
            apart(instance(FAST, partitions=(0,), unread=160), instance(GOOD), instance(BEST)), 80.0, BEST, id="dearer"
        ),
    ],
)
def test_upgrade_has_the_price_of_the_cheapest(where: ClusterState, latency_ms: float, variant: str) -> None:
    choice = chosen(query(latency_ms=latency_ms), where, config=UPGRADES)
    assert (choice.variant.name, choice.upgraded) == (variant, variant != FAST)
    assert choice.cost == chosen(query(target=FAST), where).cost
    offline = query(latency_ms=latency_ms, mode=Mode.OFFLINE)
    assert chosen(offline, where, config=UPGRADES).upgraded == chosen(offline, where).upgraded


@pytest.mark.parametrize(("share", "upgraded"), [(0.75, True), (0.85, False)])
def test_upgrade_leaves_time_for_a_batch_that_takes_longer(share: float, upgraded: bool) -> None:
    where = three()
    needed_ms = 1e3 * chosen(query(target=GOOD, latency_ms=100), where).predicted_s
    assert chosen(query(latency_ms=needed_ms / share), where, config=UPGRADES).upgraded is upgraded


def test_upgrade_ends_at_a_rate_that_fills_the_worker() -> None:
    where, now = three(), NOW
    for _ in range(30):  # 300 queries a second of 4 ms are more than half of two slots
        for _ in range(30):
            choice = chosen(query(), where, now=now)
            send(where, choice, now=now)
            where.failed(choice.partition)  # only the rate matters here
        now += 0.1
        where.apply_status(status(instance(FAST), instance(GOOD), at=now), now)
    assert chosen(query(latency_ms=100, sent=now), where, now=now, config=UPGRADES).variant.name == FAST


def machine(busy: float, *, cpus: float = 4.0) -> ClusterState:
    """Return a state of two variants on a machine whose used share of CPU time is `busy`."""
    where = three()
    said = msgspec.structs.replace(status(instance(FAST), instance(GOOD)), cpus=cpus, cpu_busy=busy)
    where.apply_status(said, NOW)
    return where


def upgraded(where: ClusterState, *, queries: int = 400) -> float:
    """Return the share of queries that are upgraded now."""
    outcomes = [choose(query(id=f"q-{n}", latency_ms=100), where, NOW, UPGRADES) for n in range(queries)]
    return sum(isinstance(outcome, Choice) and outcome.upgraded for outcome in outcomes) / queries


def test_upgrades_decrease_as_the_machine_fills() -> None:
    shares = [upgraded(machine(LIMIT * step / 20)) for step in range(21)]
    assert shares[0] == 1.0
    assert shares[-1] == upgraded(machine(1.0)) == 0.0
    assert all(less <= more for more, less in pairwise(shares))
    assert max(more - less for more, less in pairwise(shares)) < 0.3, "there is a cliff, at which they come and go"
    assert upgraded(machine(0.99, cpus=0.0)) == 1.0, "the use of the CPU is unknown"


def test_upgrades_are_limited_by_their_predicted_cpu_use() -> None:
    where = machine(0.3, cpus=2.0)
    worker = where.workers["cpu-0"]
    assert upgraded(where) == 1.0
    worker.sends.per_s = 240.0  # of 4 ms each: half of two CPUs
    assert upgraded(where) == pytest.approx((LIMIT - 0.3) / 0.48, abs=0.06)
    worker.cpu_busy = 0.6
    assert upgraded(where) == pytest.approx((LIMIT - 0.6) / 0.48, abs=0.08)


@given(
    base=st.floats(0.0, 1.0), cost_ms=st.floats(0.0, 2.0), rate=st.floats(1.0, 240.0), begin=st.floats(0.0, 1.0)
)  # fmt: skip
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


# -- cold starts -------------------------------------------------------------------------------------------------------


def test_cold_start_is_not_caused_by_overload() -> None:
    where = state_of(registered(FAST, ms=2, accuracy=0.8), registered(GOOD, ms=4, load_s=0.1))
    where.apply_status(status(instance(FAST, queued=1000), backlog_s=10.0), NOW)
    refusal = refused(query(latency_ms=300), where)
    assert (type(refusal.error), refusal.wanted) == (Overloaded, None)
    assert chosen(query(min_accuracy=0.85, latency_ms=300), where).variant.name == GOOD  # which FAST cannot do


def test_query_without_deadline_waits_at_last_variant() -> None:
    where = loaded(instance(GOOD))
    where.expire(NOW + 2)
    choice = chosen(query(), where, now=NOW + 2)
    assert choice.instance is None
    assert choice.variant.name in (FAST, GOOD)
    assert chosen(query(min_accuracy=0.85), where, now=NOW + 2).variant.name == GOOD


def test_cold_start_keeps_the_partition_of_a_query() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(), NOW)
    spread = [chosen(query(id=f"q-{n}"), where).partition.number for n in range(50)]
    assert set(spread) == {0, 1, 2, 3}
    assert spread == [chosen(query(id=f"q-{n}"), where).partition.number for n in range(50)]


# -- sizes, prices, modes ----------------------------------------------------------------------------------------------


def test_offline_query_is_priced_in_full_batches() -> None:
    batching = registered(GOOD, ms=1.2, accuracy=0.9)
    where = state_of(registered(FAST, ms=1, max_batch=1), batching)
    where.apply_status(status(instance(FAST, max_batch=1), instance(GOOD)), NOW)
    assert chosen(query(), where).variant.name == FAST
    choice = chosen(query(mode=Mode.OFFLINE), where)
    assert choice.variant.name == GOOD
    assert choice.cost < chosen(query(target=GOOD), where).cost
    before = chosen(query(target=GOOD), where).predicted_s
    send(where, choice, 10_000, offline=True)
    after = chosen(query(target=GOOD), where).predicted_s
    assert after - before <= batching[1].latency[-1].p50_s + 1e-9
    assert isinstance(refused(query(mode=Mode.OFFLINE, latency_ms=100, target=GOOD), where).error, Overloaded)


def test_larger_query_costs_and_takes_more() -> None:
    where = three()
    small, large = chosen(query(), where), chosen(query(batch=20), where)
    assert large.cost > 5 * small.cost
    assert large.predicted_s > small.predicted_s


def test_price_is_that_of_the_dearest_worker_at_present() -> None:
    where = three()
    assert chosen(query(), where).cost == pytest.approx(0.001 * 0.048 / 3.6)
    asked = query(min_accuracy=0.9, max_cost=chosen(query(min_accuracy=0.9), where).cost)
    where.apply_status(status(instance(FAST), worker="dear", price=0.2), NOW)
    assert chosen(query(), where).cost == pytest.approx(0.001 * 0.1 / 3.6)
    assert isinstance(refused(asked, where).error, Unsatisfiable)
    where.apply_status(status(worker="dear", price=0.2, leaving=True), NOW)
    assert chosen(asked, where).variant.name == GOOD


@pytest.mark.parametrize(
    ("asked", "config", "chosen", "verdicts"),
    [
        (
            query(min_accuracy=0.85, latency_ms=100), NO_UPGRADES, GOOD,
            {
                GOOD: "chosen", FAST: "is not accurate enough", BEST: "is not loaded, and loading takes 0.5 s"
            },
        ),
        (
            query(latency_ms=100), UPGRADES, GOOD,
            {FAST: "a more accurate one is idle, and is given at the cheapest's cost"},
        ),
        (query(latency_ms=100), NO_UPGRADES, FAST, {GOOD: "costs more"}),
        (query(task="other"), NO_UPGRADES, None, {}),
    ],
)  # fmt: skip
def test_explain_gives_a_verdict_for_each_variant(
    asked: Query, config: PolicyConfig, chosen: str | None, verdicts: dict[str, str]
) -> None:
    where = three()
    told = explained(explain(asked, where, NOW, config, choose(asked, where, NOW, config)))
    assert (told.get("chosen"), "upgraded" in told) == (chosen, config is UPGRADES)
    rows = cast("list[dict[str, str]]", told.get("considered", []))
    assert verdicts.items() <= {row["variant"]: row["verdict"] for row in rows}.items()
    assert chosen is not None or "unknown_task" in str(told["reason"])
