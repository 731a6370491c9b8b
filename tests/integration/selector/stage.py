"""Stage for a selector: a task, its topics, a worker whose status the test sets, and a reader of all outputs."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import uuid4

import msgspec
import pytest

from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import (
    TopicSpec,
    ensure_system_topics,
    ensure_task_topics,
    ensure_topics,
    ensure_variant_topics,
)
from broker.producing.producer import Producer
from registry import topics as registry_topics
from schemas import headers as h
from schemas import topics
from schemas.headers import RawHeaders  # noqa: TC001 - a type alias
from schemas.rows.catalog import Architecture, Task, TensorSpec
from schemas.status import InstanceStatus, PartitionStatus
from schemas.topics import DEAD_LETTERS, DEMAND, PREFIX, STATUS, task_topic
from selector import service
from selector.admission import received_query
from selector.dispatch import dispatcher, held_queries
from selector.service import Selector, open_selector
from selector.settings import SelectorSettings
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from tests.load import Pace
from tests.unit.selector.story import profile, status, variant
from tests.waiting import PATIENCE_S, until

WAIT_S = PATIENCE_S
_SHARED_NAMES = ("SELECTOR_GROUP", "OFFLINE_SELECTOR_GROUP", "LANES")


class Stage:
    """One task with two variants, its topics, and a reader of all outputs.

    `said` holds the statuses that the worker publishes, `others` those of further workers by name, and `heard` the
    records read so far by topic; of topics that all tests share, those with a name of this stage (`words`).
    """

    def __init__(self, kafka: KafkaSettings, pool: Pool, dsn: str) -> None:
        word = uuid4().hex[:10]
        self.words = {word.encode()}
        self.kafka, self.pool, self.dsn = kafka, pool, dsn
        self.task = f"t{word}"
        self.cheap, self.good = f"cheap{word}.onnx-fp32.cpu", f"good{word}.onnx-fp32.cpu"
        self.replies = f"replies-{word}"
        self.worker = f"w{word}"
        self.said: list[InstanceStatus] = []
        self.others: dict[str, list[InstanceStatus]] = {}
        self.heard: dict[str, list[Record]] = {}
        self.news = asyncio.Event()

    async def prepare(self) -> None:
        await ensure_system_topics(self.kafka)
        await ensure_task_topics(self.kafka, self.task, 2)
        await ensure_variant_topics(self.kafka, [(self.cheap, 2), (self.good, 2)])
        await ensure_topics(self.kafka, [TopicSpec(self.replies)])
        spec = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
        await put_task(self.pool, Task(name=self.task, inputs=(spec,), outputs=(spec,), partitions=2))
        await self.register(self.cheap, ms=1, accuracy=0.8)
        await self.register(self.good, ms=3, accuracy=0.9)

    async def register(self, name: str, *, ms: float, accuracy: float, load_s: float = 1.0) -> None:
        row = Architecture(name=name.split(".")[0], task=self.task, source="0" * 64, source_format="onnx")
        await put_architecture(self.pool, row)
        measured = profile(name, ms=ms, accuracy=accuracy, load_s=load_s)
        await put_variant(self.pool, variant(name, task=self.task, partitions=2), measured)

    async def speak(self, producer: Producer) -> None:
        """Publish the workers' statuses at a fixed rate, as workers do."""
        async for _ in Pace(20):
            for worker, instances in ({self.worker: self.said} | self.others).items():
                said = status(*instances, worker=worker, at=time.time())
                await producer.send_and_wait(STATUS, msgspec.json.encode(said), key=worker.encode())

    async def listen(self, tail: Tail) -> None:
        while True:
            for record in await tail.poll():
                if record.topic not in (DEAD_LETTERS, DEMAND) or self._is_named_in(record):
                    self.heard.setdefault(record.topic, []).append(record)
            self.news.set()

    def _is_named_in(self, record: Record) -> bool:
        texts = [record.value or b"", *(text or b"" for _, text in record.headers)]
        return any(word in text for word in self.words for text in texts)

    async def wait(self, topic: str, count: int = 1) -> list[Record]:
        """Return the records of `topic` since the last call; wait for at least `count`."""
        async with asyncio.timeout(WAIT_S):
            while len(self.heard.get(topic, [])) < count:
                self.news.clear()
                await self.news.wait()
        return self.heard.pop(topic)

    async def ask(
        self, producer: Producer, value: bytes | None = b"{}", partition: int | None = None, task: str | None = None,
        **needs: str,
    ) -> str:  # fmt: skip
        query_id = uuid4().hex
        headers: RawHeaders = [(h.ID, query_id.encode()), (h.REPLY_TO, self.replies.encode())]
        headers += [("infaas-" + name.replace("_", "-"), text.encode()) for name, text in needs.items()]
        await producer.send_and_wait(
            task_topic(task or self.task), value, key=query_id.encode(), headers=headers, partition=partition
        )
        return query_id


def use_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the selectors of a test groups and a topic of lanes of their own, because other tests use the broker."""
    word = uuid4().hex[:10]
    own = {name: f"{PREFIX}{name.lower().replace('_', '-')}-{word}.offline" for name in _SHARED_NAMES}
    for module in (topics, service, dispatcher, held_queries, received_query, registry_topics):
        for name in own.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, own[name])


@asynccontextmanager
async def selecting(stage: Stage, **options: str) -> AsyncGenerator[Selector]:
    """Run a selector.

    It trusts a worker's status for a minute, because both may stall on a busy machine.
    """
    given = {"upgrades": "false", "status_ttl_s": "60"} | options
    settings = SelectorSettings(**given)  # pyright: ignore[reportArgumentType]
    stop = asyncio.Event()
    async with open_selector(settings, stage.kafka, stage.dsn) as selector, asyncio.TaskGroup() as tasks:
        tasks.create_task(selector.run(stop), name="selector")
        try:
            yield selector
        finally:
            stop.set()


def empty(said: InstanceStatus) -> tuple[PartitionStatus, ...]:
    return tuple(PartitionStatus(owned.partition, 0, 0) for owned in said.partitions)


async def reply_to(stage: Stage, query_id: str) -> dict[str, str]:
    """Wait for the answer to a query among those read so far; return its headers."""

    def found() -> dict[str, str] | None:
        answers = map(fields, stage.heard.get(stage.replies, []))
        return next((answer for answer in answers if answer[h.ID] == query_id), None)

    return await until(found) or {}


def fields(record: Record) -> dict[str, str]:
    found = h.as_text(record.headers)
    h.expand_choice(found)
    return found
