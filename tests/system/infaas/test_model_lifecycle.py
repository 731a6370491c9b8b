"""Tests of models under load, through two selectors: one version is tried and rolled back, and a model is removed.

Every query is counted by its id. The clients know only the wire protocol: aiohttp sends queries over HTTP; aiokafka
writes queries and reads their results.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from bench.rollout import MODEL, SHARES, register_versions, try_and_roll_back
from infaas.cli.output import EXIT_SETUP
from schemas.topics import offline_topic, results_topic, task_topic
from tests.load import Pace
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import query

pytestmark = pytest.mark.needs_minutes

TASK: Final = "leaving"
MODELS: Final = {"leaver": "digits_linear.onnx", "stayer": "digits_mlp.onnx"}
VARIANT: Final = "leaver.onnx-fp32.cpu"
PATIENCE_S: Final = 120.0
RATE: Final = 20.0
"""Queries per second of each client. It may be low, because only the queries in flight at each step matter."""
SHARE_RATE: Final = 50.0
SHARE_QUERIES: Final = 60
ENOUGH: Final = 20
"""Queries of each client that are answered before anything is removed."""


class Load:
    """Clients that send queries until they are stopped, and the answers to each query."""

    def __init__(self, kafka: str, gateway: str) -> None:
        self._kafka = kafka
        self._gateway = gateway
        self.told: dict[str, list[str]] = {}
        """Answers to each query, by its id."""
        self.refused = Counter[str]()
        """Errors of Kafka for queries that it did not accept."""
        self.news = asyncio.Event()

    def tell(self, query_id: str, what: str) -> None:
        self.told.setdefault(query_id, []).append(what)
        self.news.set()

    def count(self, name: str, what: str) -> int:
        return sum(what in told for query_id, told in self.told.items() if query_id.startswith(name))

    def kinds(self, name: str) -> set[str]:
        """Return the kinds of answers to these clients: `ok`, `unknown_task`, or an unexpected one."""
        told = {what for query_id, told in self.told.items() if query_id.startswith(name) for what in told}
        return {"unknown_task" if what.startswith("404 ") else what for what in told}

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self.news.clear()
                await self.news.wait()

    async def ask_by_http(self, name: str, model: str, stop: asyncio.Event) -> None:
        body = json.loads(query())
        async with ClientSession(timeout=ClientTimeout(PATIENCE_S)) as http:
            async for number in Pace(RATE):
                if stop.is_set():
                    return
                query_id = f"{name}-{number}"
                self.told[query_id] = []
                url = f"{self._gateway}/v2/models/{model}/infer"
                async with http.post(url, json=body | {"id": query_id}) as answer:
                    said = await answer.json()
                if answer.status == 200:
                    assert said["id"] == query_id
                    self.tell(query_id, "ok")
                else:
                    self.tell(query_id, f"{answer.status} {said['error']}")

    async def ask_by_kafka(self, name: str, topic: str, stop: asyncio.Event) -> None:
        body = query()
        async with AIOKafkaProducer(bootstrap_servers=self._kafka, request_timeout_ms=3000) as producer:
            async for number in Pace(RATE):
                if stop.is_set():
                    return
                query_id = f"{name}-{number}"
                try:
                    await producer.send_and_wait(topic, body, headers=[("infaas-id", query_id.encode())])
                except KafkaError as error:
                    self.refused[type(error).__name__] += 1
                    self.news.set()
                else:
                    self.told.setdefault(query_id, [])

    async def read_results(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            headers = {key: value.decode() for key, value in record.headers}
            self.tell(headers["infaas-id"], headers["infaas-status"])

    def untold(self) -> list[str]:
        return [query_id for query_id, told in self.told.items() if not told]


@asynccontextmanager
async def results(load: Load, kafka: str) -> AsyncGenerator[None]:
    """Read the task's results topic while the context is open."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, auto_offset_reset="earliest")
    async with consumer, asyncio.TaskGroup() as tasks:
        consumer.assign([TopicPartition(results_topic(TASK), number) for number in range(2)])
        reading = tasks.create_task(load.read_results(consumer))
        try:
            yield
        finally:
            reading.cancel()


async def test_rollback_of_canary_loses_no_query(shared: Cli) -> None:
    state = await shared.state()
    await register_versions(shared.home)
    seen = await try_and_roll_back(shared.home, state["gateway"], SHARE_RATE, SHARE_QUERIES)
    assert seen.errors == []
    assert len(seen.answers) == seen.asked
    assert seen.shown == 0, "who is answered never sees what a copy was answered"
    assert (seen.compared.version, seen.compared.against, seen.compared.failed) == (2, 1, 0)
    assert seen.undrawn == 0, "no query was answered by the new version that was not drawn"
    for share in SHARES:
        drawn, answered = seen.shares[share]
        assert answered <= drawn, "what is drawn stays with the old version where the new one would be late"
    assert seen.shares[SHARES[-1]][1] > 0
    history = await shared.json("history", MODEL)
    assert [event["kind"] for event in history["events"]] == [
        "registered", "registered", "shadow", "shadow", "canary", "canary", "rolled back",
    ]  # fmt: skip
    assert all(event["by"] for event in history["events"])
    print(f"\n{seen.compared}\nshares {seen.shares}, last answer of the bad version after {seen.last_bad_s:.3f} s")


async def test_unregister_under_load_answers_each_query(shared: Cli) -> None:
    state = await shared.state()
    before = files_of(shared)
    for name, file in MODELS.items():
        await shared.register(file, f"--name={name}", "--partitions=2", task=TASK, data="digits")
        await answered_once(state["gateway"], name)
    load, stop = Load(state["kafka"], state["gateway"]), asyncio.Event()
    async with results(load, state["kafka"]), asyncio.TaskGroup() as clients:
        for number in range(2):
            clients.create_task(load.ask_by_http(f"task{number}", TASK, stop))
        clients.create_task(load.ask_by_http("variant", VARIANT, stop))
        clients.create_task(load.ask_by_kafka("plain", task_topic(TASK), stop))
        clients.create_task(load.ask_by_kafka("offline", offline_topic(TASK), stop))
        for name in ("task0", "variant", "plain", "offline"):
            await load.until(lambda name=name: load.count(name, "ok") >= ENOUGH)

        code, _out, err = await shared.run("unregister", VARIANT)
        assert (code, "--force" in err) == (EXIT_SETUP, True), "it is used"
        await unregistered_by_two(shared)
        answered = load.count("task0", "ok")
        await load.until(lambda: load.count("task0", "ok") >= answered + ENOUGH)
        assert load.kinds("task") == load.kinds("plain") == load.kinds("offline") == {"ok"}
        await load.until(lambda: "unknown_task" in load.kinds("variant"))
        assert load.kinds("variant") == {"ok", "unknown_task"}

        killed = await shared.start("unregister", TASK, "--force", f"--results-grace={PATIENCE_S}")
        await load.until(lambda: "unknown_task" in load.kinds("task"))
        killed.kill()
        await killed.wait()
        await shared.json("unregister", TASK, "--results-grace=5")
        await load.until(lambda: load.refused.total() > 0)
        stop.set()
    assert load.untold() == []
    for name in ("task", "variant", "plain", "offline"):
        assert load.kinds(name) == {"ok", "unknown_task"}
    assert files_of(shared) == before
    await nothing_is_left(state)


async def answered_once(gateway: str, model: str) -> None:
    """Query a model, so that it is loaded."""
    url = f"{gateway}/v2/models/{model}/infer"
    async with ClientSession(timeout=ClientTimeout(PATIENCE_S)) as http, http.post(url, data=query()) as answer:
        assert answer.status == 200, await answer.text()


async def unregistered_by_two(cli: Cli) -> None:
    """Unregister the variant by two concurrent processes; the later one, however late, finds it gone."""
    both = [await cli.start("unregister", VARIANT, "--force") for _ in range(2)]
    said = [(await process.communicate())[1].decode() for process in both]
    assert 0 in [process.returncode for process in both], said
    assert all(process.returncode == 0 or "there is no" in err for process, err in zip(both, said, strict=True)), said


def files_of(cli: Cli) -> set[str]:
    """Return the paths of all files of models, uploads and builds."""
    return {str(path.relative_to(cli.home)) for path in (cli.home / "artifacts").rglob("*") if path.is_file()}


async def nothing_is_left(state: Any) -> None:
    async with AIOKafkaConsumer(bootstrap_servers=state["kafka"]) as consumer:
        topics = await consumer.topics()
    assert [topic for topic in topics if any(name in topic for name in (TASK, *MODELS))] == []
    connection = await asyncpg.connect(state["postgres"])
    try:
        assert await tables_that_name_it(connection) == []
    finally:
        await connection.close()


async def tables_that_name_it(connection: asyncpg.Connection) -> list[str]:
    tables = await connection.fetch(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        " AND c.relname NOT IN ('changes', 'audit')"  # logs, kept for the configured time
    )
    # Decisions about other objects may mention these names.
    count = "SELECT count(*) FROM {} AS t WHERE (to_jsonb(t) - 'inputs' - 'reason' - 'explanation')::text ~ $1"
    names = "|".join((TASK, *MODELS))
    return [name for (name,) in tables if await connection.fetchval(count.format(name), names)]
