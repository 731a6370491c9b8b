"""Tests of worker names: unique on a machine and across machines, and kept by a restart."""

import asyncio
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from process.home import home_name
from schemas.errors import OperatorError
from store.placement import HeartbeatResult, find_holder, heartbeat
from store.pool import Pool
from tests.example_rows import a_worker
from tests.load import Pace
from workers.settings import WorkerSettings
from workers.worker_name import claim_name, named_worker

pytestmark = pytest.mark.timeout(60)
ONE = replace(a_worker("cpu-0"), host="one", home="one-aaaa")
TWO = replace(ONE, host="two", home="two-bbbb")


async def _beat(pool: Pool, epoch: int) -> None:
    async for _ in Pace(10):
        if await heartbeat(pool, "cpu-0", epoch) is HeartbeatResult.REFUSED:
            return


async def test_living_worker_of_another_machine_keeps_its_name(store_pool: Pool) -> None:
    epoch = await claim_name(store_pool, ONE)
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(_beat(store_pool, epoch))
        with pytest.raises(OperatorError, match=r"worker named cpu-0 runs on one .*INFAAS_WORKERS_NAME"):
            await claim_name(store_pool, TWO)
        assert await heartbeat(store_pool, "cpu-0", epoch) is not HeartbeatResult.REFUSED
        beating.cancel()


async def test_killed_worker_reclaims_its_name_at_once(store_pool: Pool) -> None:
    epoch = await claim_name(store_pool, ONE)
    async with asyncio.timeout(4):  # while its last heartbeat is still valid
        assert await claim_name(store_pool, ONE) == epoch + 1


async def test_name_of_a_lost_machine_is_free_after_a_while(store_pool: Pool) -> None:
    epoch = await claim_name(store_pool, ONE)
    assert await claim_name(store_pool, TWO) == epoch + 1
    holder = await find_holder(store_pool, "cpu-0")
    assert holder is not None
    assert (holder.host, holder.home) == ("two", "two-bbbb")


async def test_concurrent_name_claims_have_one_winner(store_pool: Pool) -> None:
    rows = [replace(ONE, host=f"host-{number}", home=f"home-{number}") for number in range(6)]

    async def claim(row: object) -> int | None:
        try:
            epoch = await claim_name(store_pool, row)  # pyright: ignore[reportArgumentType]
        except OperatorError:
            return None
        tasks.create_task(_beat(store_pool, epoch))
        return epoch

    async with asyncio.TaskGroup() as tasks:
        claims = [tasks.create_task(claim(row)) for row in rows]
        epochs = [await one for one in claims]
        assert [epoch for epoch in epochs if epoch is not None] == [1]
        await store_pool.execute("UPDATE workers SET retired = true")  # ends the heartbeats


async def test_home_name_is_stable_and_unique(tmp_path: Path) -> None:
    names = await asyncio.gather(*(asyncio.to_thread(home_name, tmp_path / "a") for _ in range(8)))
    assert len(set(names)) == 1
    assert names[0] != home_name(tmp_path / "b")
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["name"]
    assert re.fullmatch(r"[a-z0-9-]{1,20}-[0-9a-f]{4}", names[0])


async def test_second_worker_of_a_name_in_a_home_is_refused(tmp_path: Path) -> None:
    settings = WorkerSettings(name="cpu-0", home=tmp_path, memory_bytes=1)
    async with named_worker(settings):
        with pytest.raises(OperatorError, match="worker named cpu-0 runs in"):
            async with named_worker(settings):
                raise AssertionError("two have it")
    async with named_worker(settings) as named:
        assert named.name == "cpu-0"
