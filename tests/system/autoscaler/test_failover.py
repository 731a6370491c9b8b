"""Two autoscalers as processes: the leader is killed in the middle of a start, and the other goes on from there."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from broker.settings import KafkaSettings
from process.supervisor_socket import CommandReply, ProcessStatus, SupervisorCommand, command_server
from schemas.rows.scaling import Pin, PinKind
from store.pool import Pool
from store.samples import list_decisions
from store.scaling import put_pin

TAKEOVER_S = 60.0
WANTED = 3


class Site:
    """Keeps workers that are only names, and kills who asks for the second one before it hears that it is there."""

    def __init__(self) -> None:
        self.kept: dict[str, ProcessStatus] = {}
        self.starts: list[str] = []
        self.complete = asyncio.Event()
        self.victim: asyncio.subprocess.Process | None = None

    def answer(self, order: SupervisorCommand) -> CommandReply:
        if order.verb == "start":
            self.starts.append(order.name)
            self.kept[order.name] = ProcessStatus(name=order.name, state="running")
            if self.victim is not None and len(self.starts) == 2:
                self.victim.send_signal(signal.SIGKILL)
            if len(self.kept) == WANTED:
                self.complete.set()
        return CommandReply(
            processes=tuple(self.kept.values()), hardware="cpu", maximum=4, cores=1, memory_bytes=1, start_s=0.1
        )


async def test_a_successor_takes_over_and_starts_nothing_twice(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    site = Site()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(command_server(tmp_path, site.answer))
        first = await stack.enter_async_context(autoscaler(kafka, database, tmp_path))
        await leaders(store_pool, 1)
        await stack.enter_async_context(autoscaler(kafka, database, tmp_path))
        await leaders(store_pool, 2)
        site.victim = first
        await put_pin(store_pool, Pin(kind=PinKind.HARDWARE, name="cpu", minimum=WANTED))
        assert await first.wait() == -signal.SIGKILL
        async with asyncio.timeout(TAKEOVER_S):
            await site.complete.wait()
    assert Counter(site.starts) == {"cpu-0": 1, "cpu-1": 1, "cpu-2": 1}
    started = {row.worker for row in await list_decisions(store_pool) if row.action == "start"}
    assert started == set(site.starts)


async def leaders(pool: Pool, count: int) -> None:
    """Wait until so many lead or stand by."""
    sessions = "pg_stat_activity WHERE application_name = 'infaas-leader' AND datname = current_database()"
    async with asyncio.timeout(60):
        while await pool.fetch_value(int, f"SELECT count(*) FROM {sessions}") != count:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def autoscaler(kafka: KafkaSettings, dsn: str, home: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    env = os.environ | {
        "INFAAS_HOME": str(home),
        "INFAAS_KAFKA": kafka.bootstrap,
        "INFAAS_KAFKA_FETCH_MAX_WAIT_MS": str(kafka.fetch_max_wait_ms),
        "INFAAS_POSTGRES": dsn,
    }
    words = ("--launcher=processes", "--policy=greedy", '--min-workers={"cpu": 0}')
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "autoscaler", *words, env=env)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
