"""Test of services started by hand: two of each, with the same settings, have identities of their own."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topics import ensure_system_topics
from schemas.load_classes import SelectorLoad
from schemas.topics import LOAD
from store.pool import Pool
from tests.processes import service, variables_of
from tests.waiting import PATIENCE_S, read_until, until

SERVICES = ("workers", "workers", "selector", "selector", "autoscaler", "autoscaler", "gateway", "gateway")


async def test_two_of_each_service_run_with_the_same_settings(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    env = variables_of(kafka, database, tmp_path)
    await ensure_system_topics(kafka)
    async with Tail(kafka, "test", [LOAD]) as loads, running(env) as processes:
        await read_until(lambda: worker_names(store_pool), lambda names: len(names) == 2)
        await two_report(loads)
        names = await worker_names(store_pool)
        assert [(name, process.returncode) for name, process in zip(SERVICES, processes, strict=True)] == [
            (name, None) for name in SERVICES
        ]
        processes[0].kill()
        await processes[0].wait()
        async with service("workers", env=env):  # takes the name of the killed worker
            await until(lambda: has_epoch(store_pool, 2))
            assert await worker_names(store_pool) == names


@asynccontextmanager
async def running(env: dict[str, str]) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """Run all services until the context ends."""
    async with AsyncExitStack() as stack:
        # Only ports must differ on one machine; a port in use is refused with an error.
        flags = {"gateway": ("--port", "0")}
        starting = [service(name, *flags.get(name, ()), env=env) for name in SERVICES]
        yield [await stack.enter_async_context(one) for one in starting]


async def two_report(loads: Tail) -> None:
    """Wait until two selectors have reported their load."""
    selectors = set[str]()
    async with asyncio.timeout(PATIENCE_S):
        while len(selectors) < 2:
            said = await loads.poll()
            selectors |= {msgspec.json.decode(record.value or b"", type=SelectorLoad).selector for record in said}


async def worker_names(pool: Pool) -> list[str]:
    return (await pool.fetch_value(str, "SELECT string_agg(name, ' ' ORDER BY name) FROM workers") or "").split()


async def has_epoch(pool: Pool, epoch: int) -> bool:
    return await pool.fetch_value(int, "SELECT max(epoch) FROM workers") == epoch
