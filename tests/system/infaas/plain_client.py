"""Clients that know only the wire protocols: aiokafka writes queries and reads their results; aiohttp posts."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from numpy.typing import NDArray

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from schemas.topics import NAMESPACE, PREFIX, results_topic
from tests.load import Pace
from zoo.samples import labelled

PATIENCE_S = 120.0
AGAIN_PER_S = 20.0


def body_of(rows: NDArray[Any]) -> dict[str, Any]:
    """Return the body of a query with these rows of digits."""
    data: list[float] = rows.ravel().tolist()
    return {"inputs": [{"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": data}]}


def query() -> bytes:
    """Return the value of a query with one image of digits."""
    return json.dumps(body_of(labelled("digits")[0]["input"][:1])).encode()


async def page(url: str) -> str:
    """Return the text of a page, for example of metrics."""
    async with aiohttp.request("GET", url) as answer:
        return await answer.text()


async def post(http: aiohttp.ClientSession, urls: Sequence[str], body: bytes, status: int, **headers: str) -> bytes:
    """Post to the URLs in turn until one answers with this status; return the answer's body."""
    async for tries in Pace(AGAIN_PER_S):
        with suppress(aiohttp.ClientError):
            async with http.post(urls[tries % len(urls)], data=body, headers=headers) as answer:
                if answer.status == status:
                    return await answer.read()
    raise AssertionError("the pace never ends")


async def steadily(
    ask: Callable[[aiohttp.ClientSession, int], Coroutine[None, None, None]], rate: float, count: int
) -> None:
    """Call `ask` at a steady rate, without waiting for earlier calls."""
    async with (
        asyncio.timeout(PATIENCE_S),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
        asyncio.TaskGroup() as asking,
    ):
        async for number in Pace(rate, count):
            asking.create_task(ask(http, number))


async def write(kafka: str, topic: str, ids: Iterable[str], partitions: int, **headers: str) -> set[str]:
    """Write a query for each id without pause, over the partitions in turn; return the ids."""
    body, asked, fields = query(), set(ids), _fields(headers)
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer, asyncio.timeout(PATIENCE_S):
        for number, query_id in enumerate(sorted(asked)):
            await producer.send(
                topic, body, headers=[("infaas-id", query_id.encode()), *fields], partition=number % partitions
            )
    return asked


async def write_steadily(
    kafka: str, topic: str, name: str, pace: Pace, partitions: int, asked: set[str], **headers: str
) -> None:
    """Write queries at this pace, over the partitions in turn; add the ids that Kafka acknowledged to `asked`."""
    body, fields = query(), _fields(headers)
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        async for number in pace:
            query_id = f"{name}-{number}"
            own = [("infaas-id", query_id.encode()), *fields]
            try:
                await producer.send_and_wait(topic, body, headers=own, partition=number % partitions)
            except KafkaError:
                continue  # not acknowledged, so it may or may not be answered
            asked.add(query_id)


def _fields(headers: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(f"infaas-{name}", text.encode()) for name, text in headers.items()]


class Results:
    """Results in a task's results topic, all with status `ok`, counted by id."""

    def __init__(self) -> None:
        self.seen = Counter[str]()
        self.workers = set[str]()
        """Names of the workers that answered."""
        self._more = asyncio.Condition()

    async def of(self, asked: set[str]) -> Counter[str]:
        """Wait until all of these ids are answered; return the number of answers to each."""
        await self.until(lambda: self.seen.keys() >= asked)
        return Counter({query_id: count for query_id, count in self.seen.items() if query_id in asked})

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until this holds for the results read."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(holds)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            try:
                found = await consumer.getmany(timeout_ms=500)
            except KafkaError:
                continue  # Kafka is away and may come back
            async with self._more:
                for record in (record for records in found.values() for record in records):
                    fields = {name: value.decode() for name, value in record.headers}
                    assert fields["infaas-status"] == "ok", record.value
                    self.seen[fields["infaas-id"]] += 1
                    self.workers.add(fields["infaas-worker"])
                self._more.notify_all()


def topic_in(namespace: str, topic: str) -> str:
    """Return the name that a topic has in a namespace."""
    return f"{namespace}.{topic.removeprefix(PREFIX)}"


@asynccontextmanager
async def results_of(kafka: str, task: str, namespace: str = NAMESPACE) -> AsyncGenerator[Results]:
    """Read the results of a task, from the first one, while the context is open."""
    results = Results()
    topic = AIOKafkaConsumer(
        topic_in(namespace, results_topic(task)), bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    async with topic as consumer, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(results.read(consumer))
        try:
            yield results
        finally:
            reading.cancel()


async def partitions(kafka: str, topic: str) -> int:
    """Return the number of a topic's partitions."""
    async with open_admin(KafkaSettings(bootstrap=kafka)) as admin:
        (described,) = await admin.describe_topics([topic])
    return len(described["partitions"])


async def written(kafka: str, topic: str) -> int:
    """Return the number of records ever written to a topic."""
    every = [TopicPartition(topic, number) for number in range(await partitions(kafka, topic))]
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as consumer:
        return sum((await consumer.end_offsets(every)).values())
