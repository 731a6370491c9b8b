"""Fixtures: a digits model of the zoo, registered in a real database, with its topics on a real broker."""

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics, ensure_variant_topics
from broker.producing.producer import Ack, Producer
from registry.artifacts import ArtifactStore
from schemas import headers as h
from schemas.latency import BatchLatency
from schemas.oip import encode_request
from schemas.result import Result, parse_result
from schemas.rows.catalog import AccuracySource, Architecture, Profile, Task, TensorSpec, Variant, VariantState
from schemas.rows.cluster import InstanceRow
from schemas.topics import offline_variant_topic, variant_topic
from store.placement import delete_instance, list_workers, put_instances
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from store.settings import StoreSettings
from store.shared_connection import PLACEMENT, ChangeListener
from tests.processes import environment, variables_of
from workers.service import serve
from workers.settings import WorkerSettings
from zoo.samples import DATA, labelled

Header = tuple[str, bytes]
PARTITIONS = 2
MAX_BATCH = 16


def digits_task(name: str) -> Task:
    return Task(
        name=name,
        inputs=(TensorSpec(name="input", datatype="FP32", shape=(-1, 1, 8, 8)),),
        outputs=(TensorSpec(name="logits", datatype="FP32", shape=(-1, 10)),),
        partitions=PARTITIONS,
    )


def digits_profile(variant: str, batch_s: float, threads: int = 1) -> Profile:
    return Profile(
        variant=variant,
        device="test",
        threads=threads,
        load_s=0.1,
        memory_bytes=1 << 20,
        accuracy=0.95,
        accuracy_source=AccuracySource.DECLARED,
        samples=0,
        latency=(BatchLatency(1, batch_s, batch_s), BatchLatency(MAX_BATCH, 4 * batch_s, 4 * batch_s)),
        intercept_s=batch_s,
        slope_s=batch_s,
        fit_error=0.0,
    )


def request_of(images: np.ndarray) -> tuple[bytes, h.RawHeaders]:
    """Return a binary request for these images, and its headers."""
    encoded = encode_request({"input": images})
    return encoded.value, [(h.JSON_LENGTH, b"%d" % (encoded.json_length or 0)), (h.BATCH, b"%d" % len(images))]


class Site:
    """One variant with its task, topics, database and home folder."""

    def __init__(self, kafka: KafkaSettings, dsn: str, pool: Pool, home: Path) -> None:
        run = uuid.uuid4().hex[:8]
        self.kafka = kafka
        self.dsn = dsn
        self.pool = pool
        self.home = home
        self.task = f"digits-{run}"
        self.variant = f"mlp-{run}.onnx-fp32.cpu"
        self.replies = f"infaas.replies.test-{run}"
        inputs, _labels = labelled("digits")
        self.images = inputs["input"]

    async def register(
        self, model: Path = DATA / "digits_mlp.onnx", runtime: str = "onnx", batch_s: float = 1e-4, threads: int = 1
    ) -> None:
        """Register the variant, ready to be placed."""
        artifact = await asyncio.to_thread(ArtifactStore(self.home / "artifacts").put, model)
        architecture = self.variant.split(".")[0]
        await ensure_system_topics(self.kafka)
        await ensure_variant_topics(self.kafka, [(self.variant, PARTITIONS)])
        await ensure_topics(self.kafka, [TopicSpec(self.replies)])
        await put_task(self.pool, digits_task(self.task))
        await put_architecture(
            self.pool, Architecture(name=architecture, task=self.task, source=artifact, source_format="onnx")
        )
        variant = Variant(
            name=self.variant, architecture=architecture, task=self.task, runtime=runtime, precision="fp32",
            hardware="cpu", max_batch=MAX_BATCH, artifact=artifact, state=VariantState.READY, partitions=PARTITIONS,
        )  # fmt: skip
        await put_variant(self.pool, variant, digits_profile(self.variant, batch_s, threads))

    async def place(self, worker: str, partitions: Iterable[int] = (0, 1), max_batch: int = MAX_BATCH) -> None:
        """Place an instance on `worker` once the worker has registered."""
        async with ChangeListener(self.dsn, [PLACEMENT]) as changes, asyncio.timeout(100):
            async for _channel in changes:
                if any(row.name == worker for row in await list_workers(self.pool)):
                    break
        row = InstanceRow(variant=self.variant, worker=worker, partitions=tuple(partitions), max_batch=max_batch)
        await put_instances(self.pool, [row])

    async def unplace(self, worker: str) -> None:
        await delete_instance(self.pool, self.variant, worker)

    @asynccontextmanager
    async def worker(self, name: str, **more: float) -> AsyncGenerator[asyncio.Event]:
        """Run a worker in this process; the end of the context stops it gracefully."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(serve(self.settings(name, **more), self.kafka, self.store, stop))
            try:
                yield stop
            except BaseException:
                serving.cancel()
                raise
            stop.set()

    def settings(self, name: str, **more: float) -> WorkerSettings:
        return WorkerSettings.model_validate(
            {"name": name, "INFAAS_HOME": self.home, "cores": 1, "lease_ttl_s": 3.0, "lease_renew_s": 0.2, **more}
        )

    @property
    def store(self) -> StoreSettings:
        return StoreSettings.model_validate({"INFAAS_POSTGRES": self.dsn})

    def spawn(self, name: str, **more: str) -> subprocess.Popen[bytes]:
        """Start a worker process as an operator does."""
        command = [sys.executable, "-m", "workers", "--name", name]
        return subprocess.Popen(command, env=environment({**self.variables, "INFAAS_WORKERS_CORES": "1", **more}))

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables with which services find Kafka, Postgres and the home folder."""
        return variables_of(self.kafka, self.dsn, self.home)

    # -- queries -------------------------------------------------------------------------------------------------------

    def value(self, first: int = 0, count: int = 1) -> tuple[bytes, h.RawHeaders]:
        """Return a binary request for `count` of the images, and its headers."""
        return request_of(self.images[first : first + count])

    async def ask(
        self, producer: Producer, query_id: str, value: bytes, headers: Sequence[Header] = (), partition: int = 0
    ) -> None:
        """Send a query and wait until it is in the log."""
        await (await self.ask_soon(producer, query_id, value, headers, partition))

    async def ask_soon(
        self,
        producer: Producer,
        query_id: str,
        value: bytes,
        headers: Sequence[Header] = (),
        partition: int = 0,
        *,
        offline: bool = False,
    ) -> asyncio.Future[Ack]:
        sent = [(h.ID, query_id.encode()), (h.REPLY_TO, self.replies.encode()), (h.TASK, self.task.encode())]
        topic = offline_variant_topic(self.variant) if offline else variant_topic(self.variant)
        if offline:
            sent.append((h.MODE, b"offline"))
        return await producer.send(topic, value, key=query_id.encode(), headers=[*sent, *headers], partition=partition)

    async def flood(self, producer: Producer, name: str, count: int) -> set[str]:
        """Write `count` offline queries over all partitions; return their ids."""
        value, headers = self.value()
        asked = [f"{name}{number}" for number in range(count)]
        await producer.prefetch_metadata([offline_variant_topic(self.variant)])
        sent = [
            await self.ask_soon(producer, query_id, value, headers, number % PARTITIONS, offline=True)
            for number, query_id in enumerate(asked)
        ]
        await asyncio.gather(*sent)
        return set(asked)


class Results:
    """All results that arrive on the reply topic."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self.all: list[Result] = []

    @property
    def workers(self) -> set[str]:
        """Return the names of the workers that have answered."""
        return {result.worker for result in self.all}

    async def until(self, count: int, timeout_s: float = 100.0) -> dict[str, Result]:
        """Wait until `count` different queries are answered."""
        async with asyncio.timeout(timeout_s):
            while len({result.id for result in self.all}) < count:
                self.all += [_result(record) for record in await self._tail.poll()]
        return {result.id: result for result in self.all}


def _result(record: Record) -> Result:
    return parse_result(h.as_text(record.headers), record.value or b"")


@pytest.fixture
async def site(kafka: KafkaSettings, database: str, store_pool: Pool, tmp_path: Path) -> Site:
    return Site(kafka, database, store_pool, tmp_path)


@pytest.fixture
async def producer(kafka: KafkaSettings) -> AsyncGenerator[Producer]:
    async with Producer(kafka, "test") as producer:
        yield producer


@asynccontextmanager
async def results_of(site: Site) -> AsyncGenerator[Results]:
    async with Tail(site.kafka, "test-results", [site.replies]) as tail:
        yield Results(tail)


def class_of(logits: np.ndarray) -> list[int]:
    return [int(index) for index in logits.argmax(axis=1)]
