"""Services started by hand, two of each with the same settings: each is somebody of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from broker.settings import KafkaSettings
from broker.tail import Tail
from broker.topics import ensure_system_topics
from schemas.load_classes import SelectorLoad
from schemas.topics import LOAD
from store.pool import Pool

SERVICES = ("workers", "workers", "selector", "selector", "autoscaler", "autoscaler", "gateway", "gateway")
PATIENCE_S = 60.0


async def test_two_of_each_service_run_with_the_same_settings(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    environment = {"INFAAS_KAFKA": kafka.bootstrap, "INFAAS_POSTGRES": database, "INFAAS_HOME": str(tmp_path)}
    await ensure_system_topics(kafka)
    async with Tail(kafka, "test", [LOAD]) as loads, running(environment, tmp_path) as processes:
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: has_workers(store_pool, 2))
            selectors = set[str]()
            async for record in loads:
                selectors.add(msgspec.json.decode(record.value or b"", type=SelectorLoad).selector)
                if len(selectors) == 2:
                    break
        names = await worker_names(store_pool)
        assert [(service, process.returncode) for service, process in zip(SERVICES, processes, strict=True)] == [
            (service, None) for service in SERVICES
        ]
        processes[0].kill()
        await processes[0].wait()
        async with start("workers", environment, tmp_path, "again"):  # takes the place of the one that died
            async with asyncio.timeout(PATIENCE_S):
                await until(lambda: has_epoch(store_pool, 2))
            assert await worker_names(store_pool) == names


@asynccontextmanager
async def running(environment: dict[str, str], folder: Path) -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """All the services, until the context ends."""
    async with AsyncExitStack() as stack:
        starting = [start(service, environment, folder, str(number)) for number, service in enumerate(SERVICES)]
        yield [await stack.enter_async_context(one) for one in starting]


@asynccontextmanager
async def start(
    service: str, environment: dict[str, str], folder: Path, number: str
) -> AsyncGenerator[asyncio.subprocess.Process]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")}
    # Whatever can be given only once on a machine is a port, and is refused in words.
    flags = ("--port", "0") if service == "gateway" else ()
    with (folder / f"{service}-{number}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", service, *flags), env=own | environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    while not await holds():  # noqa: ASYNC110 - rows of other processes
        await asyncio.sleep(0.1)


async def worker_names(pool: Pool) -> list[str]:
    return (await pool.fetch_value(str, "SELECT string_agg(name, ' ' ORDER BY name) FROM workers") or "").split()


async def has_workers(pool: Pool, count: int) -> bool:
    return len(await worker_names(pool)) == count


async def has_epoch(pool: Pool, epoch: int) -> bool:
    return await pool.fetch_value(int, "SELECT max(epoch) FROM workers") == epoch
