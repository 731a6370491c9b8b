"""What people and the autoscaler want of the workers, and who hears of it."""

import asyncio

import pytest

from schemas.rows.placement import WorkerRow
from schemas.rows.scaling import Pin, PinKind, WantedWorkers
from store import fleet
from store.changes import SCALE, Changes
from store.errors import StoreConflict
from store.placement import list_workers, register_worker, retire_worker
from store.pool import Pool
from tests.store_rows import a_worker

CPU = Pin(kind=PinKind.HARDWARE, name="cpu", least=1, most=4, pinned_by="me")


async def test_a_pin_replaces_the_one_before(store_pool: Pool) -> None:
    await fleet.put_pin(store_pool, CPU)
    await fleet.put_pin(store_pool, Pin(kind=PinKind.HARDWARE, name="cpu", most=2, pinned_by="you"))
    await fleet.put_pin(store_pool, Pin(kind=PinKind.TASK, name="cpu", least=3, pinned_by="me"))
    found = await fleet.list_pins(store_pool)
    assert [(pin.kind, pin.name, pin.least, pin.most, pin.pinned_by) for pin in found] == [
        (PinKind.HARDWARE, "cpu", None, 2, "you"),
        (PinKind.TASK, "cpu", 3, None, "me"),
    ]
    assert await fleet.delete_pin(store_pool, PinKind.TASK, "cpu")
    assert not await fleet.delete_pin(store_pool, PinKind.TASK, "cpu")


@pytest.mark.parametrize(("least", "most"), [(None, None), (3, 2), (-1, None)])
async def test_bounds_that_cannot_be_met_are_refused(store_pool: Pool, least: int | None, most: int | None) -> None:
    with pytest.raises(StoreConflict):
        await fleet.put_pin(store_pool, Pin(kind=PinKind.TASK, name="digits", least=least, most=most))


async def test_the_pause_is_changed_once(store_pool: Pool) -> None:
    assert not (await fleet.get_control(store_pool)).paused
    assert await fleet.set_paused(store_pool, True, "me")
    assert not await fleet.set_paused(store_pool, True, "you")
    control = await fleet.get_control(store_pool)
    assert (control.paused, control.changed_by) == (True, "me")


async def test_whatever_is_wanted_is_announced(database: str, store_pool: Pool) -> None:
    wanted = WantedWorkers(hardware="cpu", count=2, reason="load")
    async with Changes(database, [SCALE]) as changes, asyncio.timeout(10):
        assert await anext(changes) == SCALE
        await fleet.put_pin(store_pool, CPU)
        assert await anext(changes) == SCALE
        await fleet.set_paused(store_pool, True, "me")
        assert await anext(changes) == SCALE
        await fleet.put_wanted(store_pool, [wanted])
        assert await anext(changes) == SCALE
    await fleet.put_wanted(store_pool, [WantedWorkers(hardware="cpu", count=3, reason="more load")])
    assert [(row.hardware, row.count, row.reason) for row in await fleet.list_wanted(store_pool)] == [
        ("cpu", 3, "more load")
    ]


async def test_a_worker_that_dies_while_it_drains_goes_on_draining(store_pool: Pool) -> None:
    await register_worker(store_pool, a_worker())
    await fleet.drain_workers(store_pool, ["cpu-0"])
    epoch = await register_worker(store_pool, a_worker())
    assert (await only_worker(store_pool)).draining
    await retire_worker(store_pool, "cpu-0", epoch)
    await register_worker(store_pool, a_worker())
    assert not (await only_worker(store_pool)).draining


async def test_a_drain_is_taken_back_and_a_worker_is_buried(store_pool: Pool) -> None:
    await register_worker(store_pool, a_worker())
    await fleet.drain_workers(store_pool, ["cpu-0"])
    await fleet.keep_workers(store_pool, ["cpu-0"])
    worker = await only_worker(store_pool)
    assert (worker.draining, worker.draining_s) == (False, 0.0)
    await fleet.bury_worker(store_pool, "cpu-0")
    assert await list_workers(store_pool) == []


async def only_worker(pool: Pool) -> WorkerRow:
    [worker] = await list_workers(pool)
    return worker
