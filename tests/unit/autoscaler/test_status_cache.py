"""Tests of `WorkerStatusCache`: recent statuses and demands, by a clock that the test sets."""

import msgspec
import pytest

from autoscaler.observe.status_cache import UseRates, WorkerStatusCache
from schemas.rows.cluster import WorkerRow
from schemas.status import Demand, InstanceState, InstanceStatus, WorkerStatus
from tests.example_rows import a_worker

VARIANT = "mlp.onnx-fp32.cpu"


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def a_status(
    epoch: int = 1,
    answered: int = 0,
    queued: int = 0,
    leaving: bool = False,
    state: InstanceState = InstanceState.ACTIVE,
) -> WorkerStatus:
    instance = InstanceStatus(variant=VARIANT, state=state, answered=answered, queued=queued)
    return WorkerStatus(
        worker="cpu-0",
        hardware="cpu",
        epoch=epoch,
        at_ms=0,
        slots=2,
        price_per_hour=0.1,
        memory_used=0,
        memory_total=1,
        instances=(instance,),
        leaving=leaving,
    )


def a_row(alive: bool = True, epoch: int = 1) -> WorkerRow:
    return msgspec.structs.replace(a_worker(alive=alive), epoch=epoch)


def test_status_cache_is_alive_by_heartbeat_or_status() -> None:
    clock = Clock()
    cache = WorkerStatusCache(clock, status_ttl_s=3.0)
    assert cache.is_alive(a_row(alive=True))
    assert not cache.is_alive(a_row(alive=False))
    cache.on_status(a_status())
    assert cache.is_alive(a_row(alive=False))
    assert not cache.is_alive(a_row(alive=False, epoch=2)), "the status is of an earlier life"
    clock.now_s += 3.1
    assert not cache.is_alive(a_row(alive=False))
    assert cache.instances() == []
    cache.on_status(a_status(leaving=True))
    assert not cache.is_alive(a_row(alive=True))
    assert cache.is_alive(a_row(alive=True, epoch=2)), "it came back"


def test_status_cache_ignores_earlier_epoch() -> None:
    cache = WorkerStatusCache(Clock(), status_ttl_s=3.0)
    cache.on_status(a_status(epoch=2))
    cache.on_status(a_status(epoch=1, leaving=True))
    assert cache.is_alive(a_row(alive=False, epoch=2))


def test_status_cache_idle_time_ends_with_use() -> None:
    clock = Clock()
    cache = WorkerStatusCache(clock, status_ttl_s=3.0)
    cache.on_status(a_status(answered=0))
    assert cache.idle_s() == {}
    cache.on_status(a_status(answered=5))
    clock.now_s += 10
    cache.on_status(a_status(answered=5))
    assert cache.idle_s() == {VARIANT: 10.0}
    cache.on_status(a_status(answered=5, queued=1))
    assert cache.idle_s() == {VARIANT: 0.0}
    clock.now_s += 10
    cache.on_status(a_status(epoch=2, answered=1))
    assert cache.idle_s() == {VARIANT: 0.0}, "a new life counts from zero"
    clock.now_s += 7
    cache.on_demand(Demand(task="digits", variant=VARIANT, at_ms=0, reason=""))
    clock.now_s += 1
    assert cache.demand_age_s() == cache.idle_s() == {VARIANT: 1.0}
    assert cache.observed_s == 28.0


def test_status_cache_forgets_unknown_names() -> None:
    cache = WorkerStatusCache(Clock(), status_ttl_s=3.0)
    cache.on_status(a_status(answered=1))
    cache.on_demand(Demand(task="digits", variant="other.onnx-fp32.cpu", at_ms=0, reason=""))
    cache.forget(variants=[], workers=[])
    assert (cache.idle_s(), cache.demand_age_s(), cache.instances()) == ({}, {}, [])


def test_status_cache_use_rates_count_answers_and_demands() -> None:
    clock = Clock()
    cache = WorkerStatusCache(clock, status_ttl_s=3.0)
    cache.on_status(a_status(answered=1000))
    assert cache.use_rates() == {}, "nobody knows when those were that came before"
    cache.on_status(a_status(answered=1002, queued=5))
    once = cache.use_rates()[VARIANT] / 2
    cache.on_status(a_status(answered=1))
    assert cache.use_rates()[VARIANT] == 3 * once, "it was loaded again, and counts anew"
    cache.on_status(a_status(answered=1))
    assert cache.use_rates()[VARIANT] == 3 * once
    cache.on_demand(Demand(task="digits", variant=VARIANT, at_ms=0, reason=""))
    assert cache.use_rates()[VARIANT] == 4 * once
    clock.now_s += 4  # no status is recent
    before = cache.use_rates()
    assert before[VARIANT] == pytest.approx(4 * once, rel=0.03)
    cache.mark_waiting([VARIANT], [])
    assert cache.use_rates() == before, "what waits was asked for once"
    assert (cache.demand_age_s(), cache.asked_age_s()) == ({VARIANT: 0.0}, {VARIANT: 4.0})
    cache.forget(variants=[], workers=[])
    assert (cache.use_rates(), cache.asked_age_s()) == ({}, {})


@pytest.mark.parametrize(
    ("state", "demanded"),
    [
        (InstanceState.DRAINING, False),  # it answers what it has read
        (InstanceState.ACTIVE, False),
        (InstanceState.FAILED, True),
    ],
)
def test_status_cache_demands_waiting_variant_unless_an_instance_answers(state: InstanceState, demanded: bool) -> None:
    cache = WorkerStatusCache(Clock(), status_ttl_s=3.0)
    cache.on_status(a_status(state=state, queued=3))
    cache.mark_waiting([VARIANT, "other", "served"], ["served"])
    assert set(cache.demand_age_s()) == ({VARIANT, "other"} if demanded else {"other"})


def test_status_cache_idle_time_restarts_after_load() -> None:
    clock = Clock()
    cache = WorkerStatusCache(clock, status_ttl_s=30.0)
    cache.on_demand(Demand(task="digits", variant=VARIANT, at_ms=0, reason=""))
    cache.on_status(a_status(state=InstanceState.LOADING))
    clock.now_s += 9
    cache.on_status(a_status(state=InstanceState.LOADING))
    assert cache.idle_s() == {VARIANT: 9.0}
    cache.on_status(a_status())
    assert cache.idle_s() == {VARIANT: 0.0}
    clock.now_s += 1
    cache.on_status(a_status())
    assert cache.idle_s() == {VARIANT: 1.0}


def test_use_rates_converge_to_steady_rate() -> None:
    rates = UseRates(half_life_s=60.0)
    for second in range(0, 1200, 2):
        rates.add("often", 1, float(second))
        if second % 50 == 0:
            rates.add("seldom", 1, float(second))
    assert rates.per_s(1200.0) == pytest.approx({"often": 0.5, "seldom": 0.02}, rel=0.4)


def test_use_rates_halve_after_half_life() -> None:
    rates = UseRates(half_life_s=60.0)
    rates.add("a", 8, 0.0)
    assert rates.per_s(60.0)["a"] == rates.per_s(0.0)["a"] / 2 == rates.per_s(120.0)["a"] * 2


def test_use_rates_forget_removed_names() -> None:
    rates = UseRates()
    rates.add("a", 1, 0.0)
    rates.add("b", 1, 0.0)
    rates.forget({"b"})
    assert list(rates.per_s(0.0)) == ["b"]
