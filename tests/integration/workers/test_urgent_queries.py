"""Test of urgent queries beside a backlog of less urgent ones: a selector and a worker on a real broker."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaProducer

from broker.kafka.topics import ensure_task_topics
from schemas import headers as h
from schemas.topics import task_topic
from selector.service import open_selector
from selector.settings import SelectorSettings
from tests.integration.workers.conftest import PARTITIONS, Site, results_of
from tests.model_files import slow_model

SLOW, URGENT = 60, 10
SLOW_MS, URGENT_MS = 100_000, 3_000


@asynccontextmanager
async def selecting(site: Site) -> AsyncGenerator[None]:
    """Run a selector, which trusts a worker's status for a minute, because both may stall on a busy machine."""
    settings = SelectorSettings.model_validate({"upgrades": False, "status_ttl_s": 60.0})
    stop = asyncio.Event()
    async with open_selector(settings, site.kafka, site.dsn) as selector, asyncio.TaskGroup() as tasks:
        tasks.create_task(selector.run(stop))
        yield
        stop.set()


async def ask(producer: AIOKafkaProducer, site: Site, name: str, latency_ms: int) -> None:
    value, headers = site.value()
    own = [(h.ID, name.encode()), (h.REPLY_TO, site.replies.encode()), (h.LATENCY_MS, b"%d" % latency_ms)]
    await producer.send_and_wait(task_topic(site.task), value, headers=[*own, *headers])


async def test_urgent_queries_overtake_flood_of_another_task(site: Site, tmp_path: Path) -> None:
    """The flood takes more than twice as long as the urgent queries may take."""
    fast = Site(site.kafka, site.dsn, site.pool, site.home)
    await site.register(await asyncio.to_thread(slow_model, tmp_path / "slow.onnx", 50_000), batch_s=0.12)
    await fast.register()
    for each in (site, fast):
        await ensure_task_topics(each.kafka, each.task, PARTITIONS)
    async with (
        AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap) as producer,
        results_of(site) as flooded,
        results_of(fast) as overtaken,
        site.worker("cpu-0"),
        selecting(site),
    ):
        await site.place("cpu-0", max_batch=1)
        await fast.place("cpu-0")
        await ask(producer, site, "loaded", SLOW_MS)
        await ask(producer, fast, "loaded", SLOW_MS)
        await asyncio.gather(flooded.until(1), overtaken.until(1))
        for number in range(SLOW):
            await ask(producer, site, f"slow {number}", SLOW_MS)
        await flooded.until(3)
        for number in range(URGENT):
            await ask(producer, fast, f"urgent {number}", URGENT_MS)
        await overtaken.until(1 + URGENT)
        answered_before = len(flooded.all)
        await flooded.until(1 + SLOW)
    assert {result.status for result in overtaken.all} == {"ok"}
    assert {result.status for result in flooded.all} == {"ok"}
    assert answered_before < SLOW // 2
