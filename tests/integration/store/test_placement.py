"""Tests of placement and leases: a partition has one owner at any time, and the epoch fences earlier owners."""

import asyncio
from collections.abc import Collection

import pytest
from msgspec.structs import replace

from schemas.rows.cluster import InstanceRow, WorkerRow
from schemas.status import InstanceState
from store import placement
from store.errors import StoreConflict
from store.placement import HeartbeatResult
from store.pool import DatabaseSession, Pool, open_pool
from store.scaling import undrain_workers
from store.shared_connection import LEASES, ChangeListener
from tests.example_rows import a_worker, an_instance, register
from tests.store_queries import count_lock_waits
from tests.waiting import until

VARIANT = "mlp.onnx-fp32.cpu"
LONG_S = 600.0


async def two_workers(pool: Pool) -> tuple[int, int]:
    await register(pool, VARIANT)
    first = await placement.register_worker(pool, patient_worker("cpu-0"))
    return first, await placement.register_worker(pool, patient_worker("cpu-1"))


def patient_worker(name: str) -> WorkerRow:
    """Return the row of a worker whose leases outlast a slow test."""
    return replace(a_worker(name), lease_ttl_s=LONG_S)


async def take(session: DatabaseSession, worker: str, epoch: int, *partitions: int) -> dict[int, int]:
    leases = await placement.acquire_leases(session, worker, epoch, VARIANT, partitions or range(4))
    return {lease.partition: lease.epoch for lease in leases}


async def silence(pool: Pool, worker: str) -> None:
    """Date the last heartbeat of a worker before its leases' end."""
    await pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 hour' WHERE name = $1", worker)


async def held(session: DatabaseSession, worker: str, epoch: int) -> list[int]:
    return sorted(lease.partition for lease in await placement.worker_leases(session, worker, epoch))


async def test_racing_workers_never_share_partition(database: str, store_pool: Pool) -> None:
    await two_workers(store_pool)
    async with open_pool(database, min_size=4, max_size=4) as one, open_pool(database, min_size=4, max_size=4) as two:
        for _ in range(20):
            await store_pool.execute("UPDATE leases SET worker = NULL")
            orders = [(one, "cpu-0", range(4)), (two, "cpu-1", (3, 2, 1, 0))] * 4
            async with asyncio.TaskGroup() as tasks:
                racers = [
                    (worker, tasks.create_task(placement.acquire_leases(pool, worker, 1, VARIANT, order)))
                    for pool, worker, order in orders
                ]
            won = {(lease.partition, worker) for worker, racer in racers for lease in racer.result()}
            assert sorted(partition for partition, _ in won) == [0, 1, 2, 3]
            assert {(lease.partition, lease.worker) for lease in await placement.list_leases(store_pool)} == won


async def test_silent_owner_gets_one_successor_and_epoch(database: str, store_pool: Pool) -> None:
    await two_workers(store_pool)
    await placement.register_worker(store_pool, patient_worker("cpu-2"))
    assert await take(store_pool, "cpu-0", 1) == dict.fromkeys(range(4), 1)
    await silence(store_pool, "cpu-0")
    async with open_pool(database, min_size=2) as other, asyncio.TaskGroup() as tasks:
        racers = [tasks.create_task(take(other, worker, 1)) for worker in ("cpu-1", "cpu-2")]
    first, second = (racer.result() for racer in racers)
    assert first | second == dict.fromkeys(range(4), 2)
    assert not first.keys() & second.keys()


async def test_live_lease_is_not_taken(store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first, 0, 1)
    assert await take(store_pool, "cpu-1", second) == {2: 1, 3: 1}
    assert await held(store_pool, "cpu-0", first) == [0, 1]


async def test_acquire_leases_again_keeps_epoch(store_pool: Pool) -> None:
    first, _ = await two_workers(store_pool)
    assert await take(store_pool, "cpu-0", first) == await take(store_pool, "cpu-0", first)


async def test_late_heartbeat_is_told_and_keeps_other_leases(store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first, 0, 1)
    assert await placement.heartbeat(store_pool, "cpu-0", first) is HeartbeatResult.IN_TIME
    await silence(store_pool, "cpu-0")
    assert await placement.list_leases(store_pool) == []
    assert await take(store_pool, "cpu-1", second, 1) == {1: 2}
    assert await placement.heartbeat(store_pool, "cpu-0", first) is HeartbeatResult.LATE
    assert await placement.heartbeat(store_pool, "cpu-0", first) is HeartbeatResult.IN_TIME
    assert await held(store_pool, "cpu-0", first) == [0]
    assert await take(store_pool, "cpu-1", second, 0) == {}


async def test_heartbeat_waits_for_takeover_and_is_late(database: str, store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first, 0)
    await silence(store_pool, "cpu-0")
    async with open_pool(database) as other:
        async with store_pool.transaction() as thief:
            assert await take(thief, "cpu-1", second, 0) == {0: 2}
            beat = asyncio.ensure_future(placement.heartbeat(other, "cpu-0", first))
            await until(lambda: count_lock_waits(store_pool))
        assert await beat is HeartbeatResult.LATE
        assert await held(other, "cpu-0", first) == []


async def test_takeover_waits_for_heartbeat_and_fails(database: str, store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first, 0)
    await silence(store_pool, "cpu-0")
    async with open_pool(database) as other:
        async with store_pool.transaction() as owner:
            assert await placement.heartbeat(owner, "cpu-0", first) is HeartbeatResult.LATE
            taking = asyncio.ensure_future(take(other, "cpu-1", second, 0))
            await until(lambda: count_lock_waits(store_pool))
        assert await taking == {}
        assert await held(other, "cpu-0", first) == [0]


async def test_restarted_worker_reclaims_leases_and_fences_old(store_pool: Pool) -> None:
    first, _ = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    again = await placement.register_worker(store_pool, a_worker("cpu-0"))
    assert again == first + 1
    assert await placement.heartbeat(store_pool, "cpu-0", first) is HeartbeatResult.REFUSED
    assert await take(store_pool, "cpu-0", again) == dict.fromkeys(range(4), 2)
    assert await take(store_pool, "cpu-0", first) == {}
    assert await held(store_pool, "cpu-0", first) == []
    assert await placement.release_leases(store_pool, "cpu-0", first, VARIANT) == 0


async def test_leases_of_replaced_process_are_free_to_all(store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    await placement.register_worker(store_pool, patient_worker("cpu-0"))
    assert await take(store_pool, "cpu-1", second, 0) == {0: 2}


async def test_released_leases_are_free_with_higher_epoch(store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    assert await placement.release_leases(store_pool, "cpu-0", first, VARIANT, [1]) == 1
    assert [lease.partition for lease in await placement.list_leases(store_pool)] == [0, 2, 3]
    assert await held(store_pool, "cpu-0", first) == [0, 2, 3]
    assert await take(store_pool, "cpu-1", second) == {1: 2}
    assert await placement.retire_worker(store_pool, "cpu-0", first)
    assert await take(store_pool, "cpu-1", second) == {0: 2, 1: 2, 2: 2, 3: 2}


async def test_worker_liveness_uses_database_time(store_pool: Pool) -> None:
    first, _ = await two_workers(store_pool)
    await store_pool.execute("UPDATE workers SET heartbeat_at = now() - interval '6 s' WHERE name = 'cpu-0'")
    assert [(w.name, w.alive) for w in await placement.list_workers(store_pool)] == [("cpu-0", False), ("cpu-1", True)]
    assert await placement.heartbeat(store_pool, "cpu-0", first) is not HeartbeatResult.REFUSED
    assert all(worker.alive for worker in await placement.list_workers(store_pool))
    assert await placement.retire_worker(store_pool, "cpu-0", first)
    assert [worker.name for worker in await placement.list_workers(store_pool)] == ["cpu-1"]
    assert await placement.heartbeat(store_pool, "cpu-0", first) is HeartbeatResult.REFUSED


async def test_instance_reports_keep_desired_placement(store_pool: Pool) -> None:
    await two_workers(store_pool)
    await placement.put_instances(store_pool, [an_instance()])
    assert await placement.report_instance_state(store_pool, "cpu-0", VARIANT, InstanceState.ACTIVE)
    await placement.put_instances(store_pool, [an_instance(partitions=(2, 3))])
    [row] = await placement.list_instances(store_pool, worker="cpu-0")
    assert (row.partitions, row.state, row.reason) == ((2, 3), InstanceState.ACTIVE, "for a test")
    assert await placement.report_instance_state(store_pool, "cpu-0", VARIANT, InstanceState.INACTIVE, "no memory")
    [row] = await placement.list_instances(store_pool)
    assert (row.state, row.reason) == (InstanceState.INACTIVE, "no memory")
    assert await placement.list_instances(store_pool, worker="cpu-1") == []
    assert await placement.delete_instance(store_pool, VARIANT, "cpu-0")
    assert not await placement.report_instance_state(store_pool, "cpu-0", VARIANT, InstanceState.ACTIVE)


async def test_instances_are_listed_with_the_quickest_load_first(store_pool: Pool) -> None:
    quick = "small.onnx-fp32.cpu"
    await register(store_pool, VARIANT, quick)
    await placement.register_worker(store_pool, a_worker("cpu-0"))
    await placement.put_instances(store_pool, [an_instance(), an_instance(quick)])
    await store_pool.execute(f"UPDATE profiles SET load_s = 0.01 WHERE variant = '{quick}'")
    assert [row.variant for row in await placement.list_instances(store_pool, worker="cpu-0")] == [quick, VARIANT]


@pytest.mark.parametrize("row", [an_instance(worker="nobody"), an_instance(variant="a.onnx-fp32.cpu")], ids=str)
async def test_put_instances_refuses_unknown_references(store_pool: Pool, row: InstanceRow) -> None:
    await two_workers(store_pool)
    with pytest.raises(StoreConflict):
        await placement.put_instances(store_pool, [row])


async def due(pool: Pool, worker: str, epoch: int, partitions: Collection[int]) -> list[tuple[int, bool]]:
    """Return the partitions to release now, and if another worker requests each."""
    found = await placement.partitions_to_release(pool, worker, epoch, VARIANT, partitions)
    return [(one.partition, one.requested) for one in found]


async def test_unwanted_partitions_are_released_at_once(store_pool: Pool) -> None:
    first, _ = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    assert await due(store_pool, "cpu-0", first, range(4)) == [(number, False) for number in range(4)]


async def test_partition_is_kept_until_next_owner_requests(store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    await placement.put_instances(store_pool, [an_instance(worker="cpu-1", partitions=(1, 2))])
    assert await due(store_pool, "cpu-0", first, range(3)) == [(0, False)]
    await placement.request_leases(store_pool, "cpu-1", VARIANT, [1])
    assert await due(store_pool, "cpu-0", first, range(3)) == [(0, False), (1, True)]
    await placement.withdraw_lease_requests(store_pool, "cpu-1", VARIANT)
    assert await due(store_pool, "cpu-0", first, range(3)) == [(0, False)]
    await placement.request_leases(store_pool, "cpu-1", VARIANT, [1])
    await placement.release_leases(store_pool, "cpu-0", first, VARIANT, [1])
    assert await take(store_pool, "cpu-1", second, 1) == {1: 2}
    # the release has ended the request
    assert await due(store_pool, "cpu-1", second, [1]) == [(1, False)]


async def test_release_does_not_wait_for_dead_worker(store_pool: Pool) -> None:
    first, _ = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    await placement.put_instances(store_pool, [an_instance(worker="cpu-1", partitions=(1,))])
    await store_pool.execute("UPDATE workers SET heartbeat_at = now() - interval '1 minute' WHERE name = 'cpu-1'")
    assert await due(store_pool, "cpu-0", first, [1]) == [(1, False)]


async def test_lease_requests_and_releases_are_announced(database: str, store_pool: Pool) -> None:
    first, second = await two_workers(store_pool)
    await take(store_pool, "cpu-0", first)
    async with ChangeListener(database, [LEASES]) as changes, asyncio.timeout(60):
        assert await anext(changes) == LEASES
        assert await take(store_pool, "cpu-1", second) == {}
        await placement.heartbeat(store_pool, "cpu-0", first)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(changes)
        await placement.request_leases(store_pool, "cpu-1", VARIANT, [0])
        assert await anext(changes) == LEASES
        await placement.release_leases(store_pool, "cpu-0", first, VARIANT)
        assert await anext(changes) == LEASES


async def test_one_worker_per_hardware_drains_at_a_time(store_pool: Pool) -> None:
    """A worker drains only while another living one of its hardware does not, so that one always serves."""
    drain, take_over = placement.drain_to_be_replaced, placement.TakeOver
    first = await placement.register_worker(store_pool, a_worker("cpu-0"))
    await placement.register_worker(store_pool, a_worker("cuda-0", hardware="cuda"))
    assert await drain(store_pool, "cpu-0", first) is take_over.ALONE
    second = await placement.register_worker(store_pool, a_worker("cpu-1"))
    assert await drain(store_pool, "cpu-0", first) is take_over.DRAINING
    assert await drain(store_pool, "cpu-0", first) is take_over.DRAINING
    assert await drain(store_pool, "cpu-1", second) is take_over.WAITING
    assert [row.name for row in await placement.list_workers(store_pool) if row.draining] == ["cpu-0"]
    await undrain_workers(store_pool, ["cpu-0"])
    assert await drain(store_pool, "cpu-1", second) is take_over.DRAINING
    await store_pool.execute(
        "UPDATE workers SET heartbeat_at = heartbeat_at - interval '1 minute' WHERE name = 'cpu-0'"
    )
    await undrain_workers(store_pool, ["cpu-1"])
    assert await drain(store_pool, "cpu-1", second) is take_over.ALONE, "the other is dead"


async def test_racing_drains_have_one_winner(database: str, store_pool: Pool) -> None:
    await two_workers(store_pool)
    async with open_pool(database, min_size=2) as pool:
        for _ in range(20):
            await undrain_workers(store_pool, ["cpu-0", "cpu-1"])
            async with asyncio.TaskGroup() as tasks:
                racers = [
                    tasks.create_task(placement.drain_to_be_replaced(pool, name, 1)) for name in ("cpu-0", "cpu-1")
                ]
            assert sorted(racer.result() for racer in racers) == ["draining", "waiting"]
