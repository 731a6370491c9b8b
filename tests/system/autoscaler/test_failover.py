"""Test of the failover of autoscalers: the leader is killed during a start, and the standby continues."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from broker.kafka.settings import KafkaSettings
from process.home import CommandReply, ProcessPool, ProcessStatus, SupervisorCommand, command_server
from schemas.rows.cluster import Pin, PinKind
from store.pool import Pool
from store.samples import list_decisions
from store.scaling import put_pin
from tests.example_rows import until_led_by
from tests.processes import service, variables_of

TAKEOVER_S = 60.0
WANTED = 3
WORDS = ("--launcher=processes", "--policy=greedy", '--min-workers={"cpu": 0}')


class Site:
    """Supervisor whose workers exist only as names; kills the leader at the second start, before the reply."""

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
        pool = ProcessPool(hardware="cpu", maximum=4, cores=1, memory_bytes=1)
        return CommandReply(processes=tuple(self.kept.values()), pools=(pool,), start_s=0.1)


async def test_failover_starts_no_worker_twice(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path
) -> None:
    site, env = Site(), variables_of(kafka, database, tmp_path)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(command_server(tmp_path, site.answer))
        first = await stack.enter_async_context(service("autoscaler", *WORDS, env=env))
        await until_led_by(store_pool, 1)
        await stack.enter_async_context(service("autoscaler", *WORDS, env=env))
        await until_led_by(store_pool, 2)
        site.victim = first
        await put_pin(store_pool, Pin(kind=PinKind.HARDWARE, name="cpu", minimum=WANTED))
        assert await first.wait() == -signal.SIGKILL
        async with asyncio.timeout(TAKEOVER_S):
            await site.complete.wait()
    assert Counter(site.starts) == {"cpu-0": 1, "cpu-1": 1, "cpu-2": 1}
    started = {row.worker for row in await list_decisions(store_pool) if row.action == "start"}
    assert started == set(site.starts)
