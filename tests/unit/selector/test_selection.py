"""Tests of `choose` on small cluster states, one situation each."""

import msgspec
import pytest

from schemas.errors import DeadlineExceeded, Overloaded, UnknownTask, Unsatisfiable
from schemas.query import Mode
from schemas.status import InstanceState
from selector.dispatch.explanation import explain
from selector.policy.choice import PolicyConfig
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


def test_choose_takes_cheapest_serving_variant() -> None:
    choice = chosen(query(), three())
    assert choice.variant.name == FAST
    assert choice.instance is not None
    assert choice.cost == pytest.approx(0.001 * 0.048 / 3.6)


def test_choose_fills_half_of_cheapest_queue_before_idle_variant() -> None:
    where = three()
    where.apply_status(status(instance(FAST, partitions=(0,), unread=160)), NOW)  # waits for 20 batches of 2.75 ms
    where.apply_status(status(instance(GOOD, partitions=(0,)), worker="cpu-1"), NOW)
    assert chosen(query(latency_ms=200), where).variant.name == FAST
    dearer = chosen(query(latency_ms=80), where)
    assert dearer.variant.name == GOOD
    assert dearer.cost == chosen(query(latency_ms=200), where).cost, "charged as the cheapest in time"
    where.apply_status(status(instance(GOOD, partitions=(0,), unread=80), worker="cpu-1"), NOW)
    assert chosen(query(latency_ms=80), where).variant.name == FAST, "both wait for long"


def test_choose_charges_upgrade_of_dearer_variant_as_cheapest_in_time() -> None:
    where = three()
    where.apply_status(status(instance(FAST, partitions=(0,), unread=160)), NOW)
    for worker, name in (("cpu-1", GOOD), ("cpu-2", BEST)):
        where.apply_status(status(instance(name, partitions=(0,)), worker=worker), NOW)
    choice = chosen(query(latency_ms=80), where, config=PolicyConfig())
    assert (choice.variant.name, choice.upgraded) == (BEST, True)
    assert choice.cost == chosen(query(latency_ms=200), where).cost


def test_choose_takes_cheapest_accurate_variant() -> None:
    assert chosen(query(min_accuracy=0.85), three()).variant.name == GOOD
    assert chosen(query(min_accuracy=0.9), three()).variant.name == GOOD


@pytest.mark.parametrize("target", ["good", GOOD])
def test_choose_accepts_architecture_or_variant_target(target: str) -> None:
    assert chosen(query(target=target), three()).variant.name == GOOD


def test_choose_refuses_unknown_task_and_target() -> None:
    assert isinstance(refused(query(task="other"), three()).error, UnknownTask)
    error = refused(query(target="mistake"), three()).error
    assert isinstance(error, UnknownTask)
    assert "mistake" in str(error)


def test_unsatisfiable_names_nearest_variant_and_its_gap() -> None:
    error = refused(query(min_accuracy=0.99), three()).error
    assert isinstance(error, Unsatisfiable)
    assert BEST in str(error)
    assert "0.9500 where 0.99 is required" in str(error)
    error = refused(query(min_accuracy=0.9, max_cost=1e-9), three()).error
    assert isinstance(error, Unsatisfiable)
    assert "USD" in str(error)
    error = refused(query(latency_ms=0.5), three()).error
    assert isinstance(error, Unsatisfiable)
    assert FAST in str(error)
    assert "0.5 ms are allowed" in str(error)


def test_unsatisfiable_ignores_slow_hops() -> None:
    where = three()
    for second in range(1, 60):  # statuses that take 0.2 s to arrive
        where.apply_status(status(instance(FAST), instance(GOOD)), NOW + second, 0.2)
    assert isinstance(refused(query(latency_ms=60, sent=NOW + 59), where, now=NOW + 59).error, Overloaded)
    assert isinstance(refused(query(latency_ms=0.5, sent=NOW + 59), where, now=NOW + 59).error, Unsatisfiable)


def test_choose_refuses_task_without_variants() -> None:
    assert "is registered yet" in str(refused(query(), state_of()).error)


def test_choose_moves_load_to_next_cheapest_then_refuses() -> None:
    where = three()
    where.apply_status(status(instance(FAST)), NOW)
    where.apply_status(status(instance(GOOD), worker="cpu-1"), NOW)
    asked = query(latency_ms=30, sent=NOW)
    first = chosen(asked, where)
    send(where, first, 200)
    second = chosen(asked, where)
    assert (first.variant.name, second.variant.name) == (FAST, GOOD)
    send(where, second, 200)
    assert isinstance(refused(asked, where).error, Overloaded)


def test_choose_moves_no_load_within_the_same_slots() -> None:
    where = three()
    asked = query(latency_ms=30, sent=NOW)
    send(where, chosen(asked, where), 200)
    assert isinstance(refused(asked, where).error, Overloaded)


def test_choose_accepts_late_answers_only_if_allowed() -> None:
    where = three()
    for name in (FAST, GOOD):
        send(where, chosen(query(target=name), where), 1000)
    assert isinstance(refused(query(latency_ms=100), where).error, Overloaded)
    late = chosen(query(latency_ms=100, allow_late=True), where)
    assert late.variant.name == FAST
    assert late.predicted_s > 0.1


def test_choose_skips_dearer_variant_on_overloaded_worker() -> None:
    where = three()
    where.apply_status(status(instance(FAST), instance(GOOD), backlogs_s=(0.02, 0.02)), NOW)
    send(where, chosen(query(target=FAST), where), 500)
    asked = query(latency_ms=150)
    assert isinstance(refused(query(latency_ms=150, target=FAST), where).error, Overloaded)
    assert chosen(query(latency_ms=150, target=GOOD), where).predicted_s < 0.15
    assert isinstance(refused(asked, where).error, Overloaded)
    where.apply_status(status(instance(GOOD), worker="cpu-1"), NOW)
    other = chosen(asked, where).instance
    assert other is not None
    assert other.worker.name == "cpu-1", "a worker with room takes what another has no time for"


def test_choose_gives_unusable_slot_to_dearer_variant() -> None:
    where = three()
    where.apply_status(status(instance(FAST, queued=800), instance(GOOD), backlogs_s=(0.0, 0.27)), NOW)
    assert chosen(query(latency_ms=150), where).variant.name == GOOD


def test_choose_takes_dearer_variant_that_is_faster_when_idle() -> None:
    cascade, measured = registered(FAST, ms=4)
    uneven = tuple(msgspec.structs.replace(each, mean_s=each.p50_s, p99_s=0.03) for each in measured.latency)
    where = state_of((cascade, msgspec.structs.replace(measured, latency=uneven)), registered(GOOD, ms=6))
    where.apply_status(status(instance(FAST), instance(GOOD), backlogs_s=(0.0, 0.0)), NOW)
    asked = query(latency_ms=35)
    assert chosen(asked, where).variant.name == FAST
    where.apply_status(status(instance(FAST, queued=2), instance(GOOD, queued=1), backlogs_s=(0.01, 0.01)), NOW)
    assert isinstance(refused(query(latency_ms=35, target=FAST), where).error, Overloaded)
    assert chosen(asked, where).variant.name == GOOD


def test_backlog_drains_between_statuses() -> None:
    where = three()
    asked = query(latency_ms=50, target=FAST)
    send(where, chosen(asked, where), 250)
    assert isinstance(refused(asked, where).error, Overloaded)
    assert chosen(query(latency_ms=50, target=FAST, sent=NOW + 0.24), where, now=NOW + 0.24).predicted_s < 0.05


def test_status_corrects_the_backlog() -> None:
    where = three()
    asked = query(latency_ms=50, target=FAST)
    send(where, chosen(asked, where), 250)
    for number in range(250):
        where.acknowledged(None, where.partitions(chosen(query(target=FAST), where).variant)[0], 100 + number, NOW)
    where.apply_status(status(instance(FAST, unread=40), instance(GOOD)), NOW)
    fast = where.workers["cpu-0"].instances[FAST]
    assert fast.waiting(NOW) == pytest.approx(250 + 3 * 40)


def test_replicas_share_by_predicted_finish() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(instance(FAST, partitions=(0, 1)), worker="a"), NOW)
    where.apply_status(status(instance(FAST, partitions=(2, 3), unread=10), worker="b"), NOW)
    seen: list[str] = []
    for _ in range(60):
        choice = chosen(query(), where)
        assert choice.instance is not None
        seen.append(choice.instance.worker.name)
        send(where, choice)
    assert seen[:10] == ["a"] * 10
    assert 15 < seen.count("b") < 30


def test_partitions_of_replica_take_turns() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(instance(FAST, partitions=(1, 3))), NOW)
    seen: list[int] = []
    for _ in range(4):
        choice = chosen(query(), where)
        seen.append(choice.partition.number)
        send(where, choice)
    assert seen == [1, 3, 1, 3]


def test_choose_keeps_slow_instance_but_not_as_upgrade() -> None:
    where = three()
    where.apply_status(status(instance(FAST, slowdown=2.5), instance(GOOD)), NOW)
    assert chosen(query(latency_ms=100), where).variant.name == FAST
    where.apply_status(status(instance(FAST), instance(GOOD, slowdown=2.5)), NOW)
    assert chosen(query(latency_ms=100), where, config=PolicyConfig()).variant.name == FAST


@pytest.mark.parametrize("state", [InstanceState.LOADING, InstanceState.DRAINING, InstanceState.INACTIVE])
def test_choose_skips_states_that_do_not_serve(state: InstanceState) -> None:
    where = three()
    where.apply_status(status(instance(FAST, state=state), instance(GOOD)), NOW)
    assert chosen(query(), where).variant.name == GOOD


def test_choose_skips_silent_and_leaving_workers() -> None:
    where = three()
    assert chosen(query(), where, now=NOW + 0.9).instance is not None
    assert chosen(query(), where, now=NOW + 1.1).instance is None
    where.expire(NOW + 1.1)
    assert not where.workers
    where.apply_status(status(instance(FAST), leaving=True), NOW + 2)
    assert chosen(query(), where, now=NOW + 2).instance is None


def test_idle_worker_expires_after_three_of_its_intervals() -> None:
    where = state_of(registered(FAST))
    where.apply_status(msgspec.structs.replace(status(instance(FAST)), interval_ms=1000.0), NOW)
    assert chosen(query(), where, now=NOW + 2.9).instance is not None
    assert chosen(query(), where, now=NOW + 3.1).instance is None


def test_hop_is_unchanged_by_status_without_delay() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(instance(FAST)), NOW + 2)
    assert where.workers["cpu-0"].hop_s == where.hop_s
    where.apply_status(status(instance(FAST)), NOW + 2, 0.1)
    assert where.workers["cpu-0"].hop_s > where.hop_s


def test_status_of_earlier_epoch_is_ignored() -> None:
    where = three()
    where.apply_status(status(instance(GOOD), epoch=2), NOW)
    where.apply_status(status(instance(FAST), instance(GOOD), epoch=1), NOW)
    assert chosen(query(), where).variant.name == GOOD


def test_prediction_applies_slowdown() -> None:
    where = three()
    where.apply_status(status(instance(FAST, slowdown=30), instance(GOOD)), NOW)
    assert chosen(query(latency_ms=20), where).variant.name == GOOD


def test_prediction_applies_correction() -> None:
    where = three()
    asked = query(target=FAST)
    where.apply_status(status(instance(FAST)), NOW)
    profiled_s = chosen(asked, where).predicted_s
    for correction in (30.0, 2.0, 1.0):
        where.apply_status(status(instance(FAST, correction=correction)), NOW)
        found = chosen(asked, where)
        model = found.variant.model_of(8, correction)
        assert found.predicted_s - profiled_s == pytest.approx(model.batch_s(1) - found.variant.model.batch_s(1))


def test_prediction_waits_only_if_all_slots_are_taken() -> None:
    where = state_of(registered(FAST, ms=1), registered(GOOD, ms=4))
    busy = instance(GOOD, queued=100)
    where.apply_status(status(instance(FAST), busy, slots=2, backlog_s=1.0), NOW)
    assert chosen(query(target=FAST), where).predicted_s < 0.05
    where.apply_status(status(instance(FAST), busy, epoch=2, slots=1, backlog_s=1.0), NOW)
    assert chosen(query(target=FAST), where).predicted_s > 0.9


def test_prediction_uses_a_free_slot_at_once() -> None:
    """A batch takes 4 ms; a query is computed at once in the second slot, and waits for the first that ends then."""
    where = state_of(registered(GOOD, ms=4, max_batch=1))

    def predicted_s(queued: int, parallel: int) -> float:
        said = instance(GOOD, queued=queued, parallel=parallel, max_batch=1)
        where.apply_status(status(said, slots=2), NOW)
        return chosen(query(), where).predicted_s - where.workers["cpu-0"].hop_s

    assert [predicted_s(queued, 2) for queued in range(7)] == pytest.approx(
        [0.004, 0.004, 0.008, 0.008, 0.012, 0.012, 0.016]
    )
    assert [predicted_s(queued, 1) for queued in range(4)] == pytest.approx([0.004, 0.008, 0.012, 0.016])


def test_backlog_drains_in_all_slots_of_its_instance() -> None:
    for slots, parallel in ((1, 2), (2, 1), (2, 2), (4, 2)):
        where = state_of(registered(GOOD, ms=4, max_batch=1))
        where.apply_status(status(instance(GOOD, queued=100, parallel=parallel, max_batch=1), slots=slots), NOW)
        after = where.workers["cpu-0"].instances[GOOD].waiting(NOW + 0.04)
        assert after == pytest.approx(100 - 10 * min(slots, parallel))


def test_instances_share_slots_by_backlog() -> None:
    where = state_of(registered(FAST, ms=1, max_batch=1), registered(GOOD, ms=4, max_batch=1))
    busy = instance(GOOD, queued=100, parallel=2, max_batch=1)
    for fast, shares in ((0, (2.0, 2 / 3)), (50, (2 * 400 / 450, 1.0)), (400, (1.0, 1.0))):
        said = instance(FAST, queued=fast, parallel=2, max_batch=1)
        where.apply_status(status(said, busy, slots=2, backlog_s=0.4), NOW)
        instances = where.workers["cpu-0"].instances
        assert (instances[GOOD].slots, instances[FAST].slots) == pytest.approx(shares)
        assert chosen(query(target=FAST), where).predicted_s > 0.19, "it lacks a slot"


# -- free upgrades -----------------------------------------------------------------------------------------------------


def test_upgrade_has_the_price_of_the_cheapest() -> None:
    where = three()
    plain = chosen(query(latency_ms=100), where)
    better = chosen(query(latency_ms=100), where, config=PolicyConfig())
    assert (better.variant.name, better.upgraded, better.cost) == (GOOD, True, plain.cost)


def test_upgrade_skips_late_or_busy_instance() -> None:
    where = three()
    assert chosen(query(latency_ms=7), where, config=PolicyConfig()).variant.name == FAST
    send(where, chosen(query(target=GOOD), where))
    assert chosen(query(latency_ms=100), where, config=PolicyConfig()).variant.name == FAST


@pytest.mark.parametrize(("share", "upgraded"), [(0.75, True), (0.85, False)])
def test_upgrade_leaves_time_for_a_batch_that_takes_longer(share: float, upgraded: bool) -> None:
    where = three()
    needed_ms = 1e3 * chosen(query(target=GOOD, latency_ms=100), where).predicted_s
    choice = chosen(query(latency_ms=needed_ms / share), where, config=PolicyConfig())
    assert (choice.upgraded, choice.variant.name) == (upgraded, GOOD if upgraded else FAST)


def test_upgrade_ends_at_a_rate_that_fills_the_worker() -> None:
    where = three()
    now = NOW
    for _ in range(30):  # 300 queries a second of 4 ms are more than half of two slots
        for _ in range(30):
            choice = chosen(query(), where, now=now)
            send(where, choice, now=now)
            where.failed(choice.partition)  # only the rate matters here
        now += 0.1
        where.apply_status(status(instance(FAST), instance(GOOD), at=now), now)
    assert chosen(query(latency_ms=100, sent=now), where, now=now, config=PolicyConfig()).variant.name == FAST


# -- cold starts -------------------------------------------------------------------------------------------------------


def test_cold_start_if_load_still_fits() -> None:
    where = three()
    choice = chosen(query(min_accuracy=0.94, latency_ms=1000), where)
    assert (choice.variant.name, choice.instance) == (BEST, None)
    assert choice.predicted_s > 0.5
    refusal = refused(query(min_accuracy=0.94, latency_ms=300), where)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.wanted is not None
    assert refusal.wanted.name == BEST


def test_cold_start_takes_cheapest_that_fits() -> None:
    where = state_of(
        registered(FAST, ms=1, load_s=5), registered(GOOD, ms=4, load_s=1), registered(BEST, ms=16, load_s=2)
    )
    where.apply_status(status(), NOW)
    assert chosen(query(latency_ms=6000), where).variant.name == FAST
    assert chosen(query(latency_ms=2000), where).variant.name == GOOD
    assert chosen(query(), where).variant.name == FAST


def test_cold_start_is_not_caused_by_overload() -> None:
    where = state_of(registered(FAST, ms=2, accuracy=0.8), registered(GOOD, ms=4, load_s=0.1))
    where.apply_status(status(instance(FAST)), NOW)
    assert chosen(query(latency_ms=300), where).variant.name == FAST
    where.apply_status(status(instance(FAST, queued=1000), backlog_s=10.0), NOW)
    refusal = refused(query(latency_ms=300), where)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.wanted is None
    assert chosen(query(min_accuracy=0.85, latency_ms=300), where).variant.name == GOOD  # which FAST cannot do


def test_cold_start_needs_an_able_worker() -> None:
    where = state_of(registered("fast.onnx-fp32.cuda", hardware="cuda"), registered(GOOD, memory=2000))
    where.apply_status(status(memory=1000), NOW)
    refusal = refused(query(latency_ms=5000), where)
    assert isinstance(refusal.error, Overloaded)
    assert refusal.wanted is None


def test_query_without_deadline_waits_at_last_variant() -> None:
    where = three()
    where.apply_status(status(instance(GOOD)), NOW)
    where.expire(NOW + 2)
    choice = chosen(query(), where, now=NOW + 2)
    assert choice.instance is None
    assert choice.variant.name in (FAST, GOOD)
    assert chosen(query(min_accuracy=0.85), where, now=NOW + 2).variant.name == GOOD


def test_cold_start_keeps_the_partition_of_a_query() -> None:
    where = state_of(registered(FAST))
    where.apply_status(status(), NOW)
    spread = {chosen(query(id=f"q-{n}"), where).partition.number for n in range(50)}
    assert spread == {0, 1, 2, 3}
    assert len({chosen(query(id="q-1"), where).partition.number for _ in range(3)}) == 1


# -- deadlines and offline queries -------------------------------------------------------------------------------------


def test_choose_refuses_passed_deadline() -> None:
    assert isinstance(refused(query(latency_ms=1000), three(), now=NOW + 1.5).error, DeadlineExceeded)


def test_query_without_deadline_uses_default_latency() -> None:
    where = three()
    send(where, chosen(query(target=FAST), where), 4000)
    assert chosen(query(), where).variant.name == GOOD
    send(where, chosen(query(target=GOOD), where), 5000)
    assert chosen(query(), where).variant.name == FAST


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


# -- changes of the catalog --------------------------------------------------------------------------------------------


def test_instances_serve_after_catalog_change() -> None:
    where = three()
    assert chosen(query(), where).variant.name == FAST
    variants = [registered(FAST, ms=1, accuracy=0.6), registered(GOOD, ms=4, accuracy=0.9)]
    where.register(["digits"], [v for v, _ in variants], {p.variant: p for _, p in variants})
    choice = chosen(query(), where)
    assert choice.instance is not None
    assert choice.variant.accuracy == 0.6
    where.register(["digits"], [variants[1][0]], {GOOD: variants[1][1]})
    assert chosen(query(), where).variant.name == GOOD
    where.register([], [], {})
    assert isinstance(refused(query(), where).error, UnknownTask)


def test_price_is_that_of_the_dearest_worker() -> None:
    where = three()
    assert chosen(query(), where).cost == pytest.approx(0.001 * 0.048 / 3.6)
    where.apply_status(status(instance(FAST), worker="dear", price=0.2), NOW)
    assert chosen(query(), where).cost == pytest.approx(0.001 * 0.1 / 3.6)


def test_max_cost_is_compared_with_the_latest_price() -> None:
    where = three()
    asked = query(min_accuracy=0.9, max_cost=chosen(query(min_accuracy=0.9), where).cost)
    where.apply_status(status(instance(FAST), worker="dear", price=0.2), NOW)
    assert isinstance(refused(asked, where).error, Unsatisfiable)
    where.apply_status(status(worker="dear", price=0.2, leaving=True), NOW)
    assert chosen(asked, where).variant.name == GOOD


def test_explain_gives_a_verdict_for_each_variant() -> None:
    where = three()
    asked = query(min_accuracy=0.85, latency_ms=100)
    told = explained(explain(asked, where, NOW, NO_UPGRADES, choose(asked, where, NOW, NO_UPGRADES)))
    assert told["chosen"] == GOOD
    verdicts = {row["variant"]: row["verdict"] for row in told["considered"]}  # pyright: ignore
    assert verdicts == {
        GOOD: "chosen",
        FAST: "is not accurate enough",
        BEST: "is not loaded, and loading takes 0.5 s",
    }
    upgraded = PolicyConfig()
    asked = query(latency_ms=100)
    told = explained(explain(asked, where, NOW, upgraded, choose(asked, where, NOW, upgraded)))
    assert (told["chosen"], told["upgraded"]) == (GOOD, True)
    verdicts = {row["variant"]: row["verdict"] for row in told["considered"]}  # pyright: ignore
    assert verdicts[FAST] == "a more accurate one is idle, and is given at the cheapest's cost"
    told = explained(explain(asked, where, NOW, NO_UPGRADES, choose(asked, where, NOW, NO_UPGRADES)))
    assert (told["chosen"], "upgraded" in told) == (FAST, False)
    verdicts = {row["variant"]: row["verdict"] for row in told["considered"]}  # pyright: ignore
    assert verdicts[GOOD] == "costs more"
    nothing = query(task="other")
    told = explained(explain(nothing, where, NOW, NO_UPGRADES, choose(nothing, where, NOW, NO_UPGRADES)))
    assert "unknown_task" in str(told["reason"])
