"""Test of `read_cluster`: all rows are of one moment, although other transactions write meanwhile."""

import pytest

from schemas.rows.scaling import WantedWorkers
from store import cluster
from store.placement import register_worker
from store.pool import DatabaseSession, Pool
from store.scaling import drain_workers, list_wanted, put_wanted
from tests.store_rows import a_worker


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

    monkeypatch.setattr(cluster, "list_wanted", list_and_be_overtaken)
    rows = await cluster.read_cluster(store_pool)
    assert (rows.wanted[0].count, sum(worker.draining for worker in rows.workers)) == (2, 0)
    monkeypatch.undo()
    rows = await cluster.read_cluster(store_pool)
    assert (rows.wanted[0].count, sum(worker.draining for worker in rows.workers)) == (1, 1)
