"""Two of each service, started by hand with the same settings, under load: every id is counted, by clients not ours."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

import aiohttp
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.settings import KafkaSettings
from broker.topics import ensure_system_topics
from process.ports import LOOPBACK, free_port
from process.subprocesses import running
from schemas.status import SERVING
from schemas.topics import results_topic, task_topic
from store.placement import list_instances
from store.pool import Pool
from tests.system.infaas.conftest import Cli
from tests.system.infaas.test_by_hand import until
from tests.system.infaas.test_selectors import decisions, query
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.timeout(400)
SERVICES: Final = ("workers", "selector", "autoscaler", "gateway")
PARTITIONS: Final = 4
ASKED: Final = 400
"""Queries of each of the two clients in each part."""
RATE: Final = 100.0
PATIENCE_S: Final = 120.0
_AGAIN_S: Final = 0.05


class Started(NamedTuple):
    """The first and the second of each service, and where they answer."""

    processes: dict[str, list[asyncio.subprocess.Process]]
    urls: dict[str, list[str]]


async def test_two_of_each_share_the_load_and_answer_every_id(
    kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path, cli: Cli
) -> None:
    environment = {"INFAAS_KAFKA": kafka.bootstrap, "INFAAS_POSTGRES": database, "INFAAS_HOME": str(tmp_path)}
    task = f"twice-{uuid4().hex[:8]}"
    await ensure_system_topics(kafka)
    await register(cli, task, environment)
    async with two_of_each(environment, tmp_path) as started, Results(kafka.bootstrap, task) as results:
        gateways, selectors = started.urls["gateway"], started.urls["selector"]
        async with asyncio.timeout(PATIENCE_S):
            await until(lambda: serve(store_pool, 2))
            for url in gateways:
                await until(lambda url=url: responds(f"{url}/v2/models/{task}/ready"))

            first: set[str] = set()
            # A member hears of a new topic in its own time; until then the other decides alone.
            while not first or 0 in [await decisions(f"{url}/metrics") for url in selectors]:
                name = f"calm-{len(first)}"
                asked, _ = await asyncio.gather(ask_kafka(kafka.bootstrap, task, name), ask_http(gateways, task, name))
                first |= asked
        await results.of(first)
        assert Counter(results.ids) == Counter(first)

        then, _, _ = await asyncio.gather(
            ask_kafka(kafka.bootstrap, task, "killed"), ask_http(gateways, task, "killed"), kill_the_first(started)
        )
        await results.of(then)  # at least once: some may have come again
        assert set(results.ids) == first | then


async def register(cli: Cli, task: str, environment: dict[str, str]) -> None:
    inputs, labels = labelled("digits")
    validation = cli.home.parent / "validation.npz"
    np.savez(validation, allow_pickle=False, label=labels, **inputs)
    words = (f"--task={task}", f"--name={task}-linear", f"--validation={validation}", "--variant=onnx-fp32")
    model = str(Path(DATA) / "digits_linear.onnx")
    for command in (
        ("register", model, *words, f"--partitions={PARTITIONS}", "--json"),
        ("scale", "pin", "task", task, "--min=2"),
    ):
        code, _, err = await cli.run(*command, **environment)
        assert code == 0, err


@asynccontextmanager
async def two_of_each(environment: dict[str, str], folder: Path) -> AsyncGenerator[Started]:
    """Two of each service, with nothing of their own but a port, which a machine has only once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFAAS_")} | environment
    started = Started({}, {})
    async with AsyncExitStack() as stack:
        for service in SERVICES * 2:
            port = free_port()
            ports = {f"INFAAS_{service.upper()}_{'PORT' if service == 'gateway' else 'METRICS_PORT'}": str(port)}
            log = folder / f"{service}-{port}.log"
            process = await stack.enter_async_context(running([sys.executable, "-m", service], log, env=own | ports))
            started.processes.setdefault(service, []).append(process)
            started.urls.setdefault(service, []).append(f"http://{LOOPBACK}:{port}")
        yield started


async def kill_the_first(started: Started) -> None:
    """SIGKILL the first of each service, one after the other, while queries come."""
    for service in SERVICES:
        await asyncio.sleep(ASKED / RATE / len(SERVICES) / 2)  # a fault each now and then, not all at once
        started.processes[service][0].send_signal(signal.SIGKILL)


async def serve(pool: Pool, count: int) -> bool:
    rows = await list_instances(pool)
    return len({row.worker for row in rows if row.state in SERVING}) == count


async def responds(url: str) -> bool:
    async with aiohttp.ClientSession() as http:
        try:
            async with http.get(url) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False


async def ask_kafka(kafka: str, task: str, name: str) -> set[str]:
    """Ask at a steady rate; returns the ids, all of which Kafka has acknowledged."""
    body, asked = query(), {f"{name}-{number}" for number in range(ASKED)}
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        for number, query_id in enumerate(sorted(asked)):
            headers = [("infaas-id", query_id.encode())]
            await producer.send_and_wait(task_topic(task), body, headers=headers, partition=number % PARTITIONS)
            await asyncio.sleep(1 / RATE)  # the rate of the load
    return asked


async def ask_http(gateways: list[str], task: str, name: str) -> None:
    """Ask both gateways in turn at a steady rate; who is not answered asks the other one under the same id."""
    answered: Counter[str] = Counter()

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        query_id, tries = f"http-{name}-{number}", 0
        while not answered[query_id]:
            url = f"{gateways[(number + tries) % 2]}/v2/models/{task}/infer"
            tries += 1
            try:
                async with http.post(url, data=query(), headers={"infaas-id": query_id}) as answer:
                    answered[query_id] += answer.status == 200
            except aiohttp.ClientError:
                await asyncio.sleep(_AGAIN_S)  # the pace of who asks again

    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as asking,
    ):
        for number in range(ASKED):
            asking.create_task(ask(http, number))
            await asyncio.sleep(1 / RATE)  # the rate of the load
    assert answered == Counter(f"http-{name}-{number}" for number in range(ASKED))


class Results:
    """Ids of a task's results as a plain client reads them while the context is open."""

    def __init__(self, kafka: str, task: str) -> None:
        self.ids: list[str] = []
        self._more = asyncio.Condition()
        self._consumer = AIOKafkaConsumer(results_topic(task), bootstrap_servers=kafka, auto_offset_reset="earliest")
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> "Results":
        await self._consumer.start()
        await self._tasks.__aenter__()
        self._reading = self._tasks.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        self._reading.cancel()
        await self._tasks.__aexit__(None, None, None)
        await self._consumer.stop()

    async def of(self, asked: set[str]) -> None:
        """Wait until all of these have a result."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: asked <= set(self.ids))

    async def _read(self) -> None:
        async for record in self._consumer:
            fields = {name: value.decode() for name, value in record.headers}
            async with self._more:
                assert fields["infaas-status"] == "ok", record.value
                self.ids.append(fields["infaas-id"])
                self._more.notify_all()
