"""Tests of variants whose batches take several slots of a worker: predictions, price and placement."""

import msgspec
import pytest

from schemas.needs import Mode
from selector.choice import Choice, PolicyConfig
from selector.cluster_state import ClusterState
from selector.entities import Instance
from selector.late_binding import Wait, bind
from selector.policy import choose
from selector.prediction import finish_s
from tests.unit.selector.story import NOW, TASK, instance, profile, query, status, variant

NARROW, WIDE = "mlp.onnx-fp32.cpu", "mlp.onnx-fp32.cpu2"
CONFIG = PolicyConfig(upgrades=False)
PRICE = 0.096


def both(*, slots: int = 2, threads: int = 1, queued: int = 0) -> ClusterState:
    """Return a state where WIDE takes two cores and two thirds of the time; `queued` queries wait for NARROW."""
    profiles = [profile(NARROW, ms=30.0), msgspec.structs.replace(profile(WIDE, ms=20.0), threads=2)]
    state = ClusterState()
    state.register([TASK], [variant(NARROW), variant(WIDE)], {p.variant: p for p in profiles})
    narrow = instance(NARROW, queued=queued, parallel=slots)
    said = status(narrow, instance(WIDE), slots=slots, price=PRICE, backlog_s=0.1 * bool(queued))
    state.apply_status(msgspec.structs.replace(said, threads=threads), NOW)
    return state


def wide_of(state: ClusterState) -> Instance:
    return state.workers["cpu-0"].instances[WIDE]


def test_wide_variant_is_priced_by_its_cores() -> None:
    cheap, dear = choose(query(), both(), NOW, CONFIG), choose(query(latency_ms=25.0), both(), NOW, CONFIG)
    assert isinstance(cheap, Choice)
    assert isinstance(dear, Choice)
    assert (cheap.variant.name, dear.variant.name) == (NARROW, WIDE), "the dear one only where it must be fast"
    assert cheap.variant.price == pytest.approx(PRICE / 2)
    assert dear.variant.price == pytest.approx(PRICE)
    assert dear.cost == pytest.approx(cheap.cost * 4 / 3)


def test_wide_variant_waits_for_a_taken_slot() -> None:
    free, taken = wide_of(both()), wide_of(both(queued=1))
    assert (free.lacks_slot, taken.lacks_slot) == (False, True)
    assert finish_s(taken, 1, NOW) > finish_s(free, 1, NOW) + 0.04
    assert not wide_of(both(slots=3, queued=1)).lacks_slot


def test_wide_variant_occupies_all_its_slots() -> None:
    state = both()
    wide = wide_of(state)
    state.sent(wide, wide.partitions[0], 1, NOW)
    assert wide.worker.wait_s(NOW, 1) == pytest.approx(wide.model.batch_s(1)), "two slots for so long"
    state.apply_status(status(instance(NARROW, parallel=2), instance(WIDE, queued=1)), NOW + 0.1)
    narrow = state.workers["cpu-0"].instances[NARROW]
    assert (wide.busy, narrow.lacks_slot) == (2, True)


def test_wide_variant_starts_when_all_its_slots_are_free() -> None:
    state = both()
    narrow = instance(NARROW, queued=1, parallel=2)
    state.apply_status(status(narrow, instance(WIDE), backlogs_s=(0.0, 0.1)), NOW)
    wide = wide_of(state)
    own_s = wide.model.batch_s(1)
    assert finish_s(wide, 1, NOW) > 0.1 + own_s
    state.sent(wide, wide.partitions[0], 1, NOW)
    assert wide.worker.free_at == pytest.approx([NOW + 0.1 + own_s] * 2)


def test_wide_variant_takes_one_slot_of_two_cores() -> None:
    wide = wide_of(both(threads=2))
    assert (wide.width, wide.slots) == (1, 1.0)
    assert wide.variant.price == pytest.approx(PRICE / 2), "two of the four cores"
    narrow = wide.worker.instances[NARROW]
    assert narrow.variant.price == pytest.approx(PRICE / 2), "the other core of its slot is nobody else's"


def test_bind_wide_variant_needs_all_its_slots_free() -> None:
    offline = query(mode=Mode.OFFLINE, target=WIDE)
    assert isinstance(bind(offline, both(), NOW, CONFIG), Choice)
    assert isinstance(bind(offline, both(queued=1), NOW, CONFIG), Wait)


def test_wide_variant_is_not_loadable_without_cores() -> None:
    state = ClusterState()
    state.register([TASK], [variant(WIDE)], {WIDE: msgspec.structs.replace(profile(WIDE), threads=2)})
    state.apply_status(status(slots=1), NOW)
    assert not state.tasks[TASK].is_loadable(state.tasks[TASK].variants[0])
    state.apply_status(status(slots=2, epoch=2), NOW)
    assert state.tasks[TASK].is_loadable(state.tasks[TASK].variants[0])


def test_wide_variant_is_not_loadable_without_memory() -> None:
    state, needs = ClusterState(), msgspec.structs.replace(profile(WIDE), threads=2, memory_bytes=1 << 30)
    state.register([TASK], [variant(WIDE)], {WIDE: needs})
    for worker, slots, memory in (("cpu-0", 2, 1 << 20), ("cpu-1", 1, 1 << 40)):
        state.apply_status(msgspec.structs.replace(status(slots=slots), worker=worker, memory_total=memory), NOW)
    assert not state.tasks[TASK].is_loadable(state.tasks[TASK].variants[0])
