"""Tests of the rows of scaling: pins, pause, wanted workers and draining, their notifications, and their snapshot."""

import asyncio

import pytest

from schemas.rows.cluster import Pin, PinKind, WantedWorkers, WorkerRow
from store import scaling
from store.errors import StoreConflict
from store.placement import list_workers, register_worker, retire_worker
from store.pool import DatabaseSession, Pool
from store.scaling import drain_workers, list_wanted, put_wanted
from store.shared_connection import SCALE, ChangeListener
from tests.example_rows import a_worker

CPU = Pin(kind=PinKind.HARDWARE, name="cpu", minimum=1, maximum=4, pinned_by="me")


async def test_put_pin_replaces_earlier_pin(store_pool: Pool) -> None:
    await scaling.put_pin(store_pool, CPU)
    await scaling.put_pin(store_pool, Pin(kind=PinKind.HARDWARE, name="cpu", maximum=2, pinned_by="you"))
    await scaling.put_pin(store_pool, Pin(kind=PinKind.TASK, name="cpu", minimum=3, pinned_by="me"))
    found = await scaling.list_pins(store_pool)
    assert [(pin.kind, pin.name, pin.minimum, pin.maximum, pin.pinned_by) for pin in found] == [
        (PinKind.HARDWARE, "cpu", None, 2, "you"),
        (PinKind.TASK, "cpu", 3, None, "me"),
    ]
    assert await scaling.delete_pin(store_pool, PinKind.TASK, "cpu")
    assert not await scaling.delete_pin(store_pool, PinKind.TASK, "cpu")


@pytest.mark.parametrize(("minimum", "maximum"), [(None, None), (3, 2), (-1, None)])
async def test_put_pin_refuses_invalid_bounds(store_pool: Pool, minimum: int | None, maximum: int | None) -> None:
    with pytest.raises(StoreConflict):
        await scaling.put_pin(store_pool, Pin(kind=PinKind.TASK, name="digits", minimum=minimum, maximum=maximum))


async def test_set_paused_changes_once(store_pool: Pool) -> None:
    assert not (await scaling.get_control(store_pool)).paused
    assert await scaling.set_paused(store_pool, True, "me")
    assert not await scaling.set_paused(store_pool, True, "you")
    control = await scaling.get_control(store_pool)
    assert (control.paused, control.changed_by) == (True, "me")


async def test_scaling_changes_are_announced(database: str, store_pool: Pool) -> None:
    wanted = WantedWorkers(hardware="cpu", count=2, reason="load")
    async with ChangeListener(database, [SCALE]) as changes, asyncio.timeout(60):
        assert await anext(changes) == SCALE
        await scaling.put_pin(store_pool, CPU)
        assert await anext(changes) == SCALE
        await scaling.set_paused(store_pool, True, "me")
        assert await anext(changes) == SCALE
        await scaling.put_wanted(store_pool, [wanted])
        assert await anext(changes) == SCALE
    await scaling.put_wanted(store_pool, [WantedWorkers(hardware="cpu", count=3, reason="more load")])
    assert [(row.hardware, row.count, row.reason) for row in await scaling.list_wanted(store_pool)] == [
        ("cpu", 3, "more load")
    ]


async def test_restarted_worker_continues_draining(store_pool: Pool) -> None:
    await register_worker(store_pool, a_worker())
    await scaling.drain_workers(store_pool, ["cpu-0"])
    epoch = await register_worker(store_pool, a_worker())
    assert (await only_worker(store_pool)).draining
    await retire_worker(store_pool, "cpu-0", epoch)
    await register_worker(store_pool, a_worker())
    assert not (await only_worker(store_pool)).draining


async def test_undrain_and_remove_worker_change_rows(store_pool: Pool) -> None:
    await register_worker(store_pool, a_worker())
    await scaling.drain_workers(store_pool, ["cpu-0"])
    await scaling.undrain_workers(store_pool, ["cpu-0"])
    worker = await only_worker(store_pool)
    assert (worker.draining, worker.draining_s) == (False, 0.0)
    await scaling.remove_worker(store_pool, "cpu-0")
    assert await list_workers(store_pool) == []


async def only_worker(pool: Pool) -> WorkerRow:
    [worker] = await list_workers(pool)
    return worker


async def test_read_cluster_is_one_snapshot(store_pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    await register_worker(store_pool, a_worker("cpu-0"))
    await register_worker(store_pool, a_worker("cpu-1"))
    await put_wanted(store_pool, [WantedWorkers(hardware="cpu", count=2, reason="load")])

    async def list_and_be_overtaken(session: DatabaseSession) -> list[WantedWorkers]:
        found = await list_wanted(session)
        async with store_pool.transaction() as other:
            await put_wanted(other, [WantedWorkers(hardware="cpu", count=1, reason="less load")])
            await drain_workers(other, ["cpu-1"])
        return found

    monkeypatch.setattr(scaling, "list_wanted", list_and_be_overtaken)
    rows = await scaling.read_cluster(store_pool)
    assert (rows.wanted[0].count, sum(worker.draining for worker in rows.workers)) == (2, 0)
    monkeypatch.undo()
    rows = await scaling.read_cluster(store_pool)
    assert (rows.wanted[0].count, sum(worker.draining for worker in rows.workers)) == (1, 1)
