"""Tests of offline queries at a worker, with a real broker, Postgres and model."""

import asyncio
import signal
import threading
from collections import Counter

import pytest
from aiokafka import TopicPartition

from broker.kafka.settings import KafkaSettings
from broker.kafka.topic_lifecycle import delete_topics
from broker.kafka.topics import partitions_of
from broker.producing.producer import Producer
from schemas.topics import offline_variant_topic, variant_topics
from tests.integration.workers.conftest import MAX_BATCH, PARTITIONS, Site, results_of
from tests.waiting import read_until, until
from workers.serving.codec import Arrays
from workers.serving.computation import Computation
from workers.serving.pending_query import QueryPart
from workers.settings import WorkerSettings
from workers.slots.batch_queue import BatchQueue

MORE_THAN_IS_FETCHED = 2 * int(WorkerSettings.model_fields["prefetch_max"].default)
"""Offline queries, twice the largest prefetch of an instance."""


class Batches:
    """Records the ids of each computed batch; batches wait until `go` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: list[list[str]] = []
        self.go = threading.Event()
        self.queue: BatchQueue[QueryPart] | None = None
        infer, add = Computation._infer, BatchQueue[QueryPart].add  # pyright: ignore[reportPrivateUsage]

        def note(computation: Computation, parts: list[QueryPart]) -> list[Arrays | Exception]:
            self.ids.append([part.query.id for part in parts])
            self.go.wait(60)
            return infer(computation, parts)  # pyright: ignore[reportReturnType]

        def watch(queue: BatchQueue[QueryPart], part: QueryPart) -> None:
            self.queue = queue
            add(queue, part)

        monkeypatch.setattr(Computation, "_infer", note)
        monkeypatch.setattr(BatchQueue, "add", watch)

    def waiting(self) -> tuple[int, int]:
        """Return the online and offline inputs that were read and are not computed."""
        return (self.queue.online_inputs, self.queue.offline_inputs) if self.queue else (0, 0)


async def test_online_queries_overtake_offline_flood(
    site: Site, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.register(batch_s=0.01)
    value, headers = site.value()
    batches = Batches(monkeypatch)
    async with results_of(site) as results, site.worker("cpu-0"):
        flood = await site.flood(producer, "offline", MORE_THAN_IS_FETCHED)
        await site.place("cpu-0")
        await until(lambda: len(batches.ids) == 1)
        online = {f"online{number}" for number in range(2 * MAX_BATCH)}
        for number, query_id in enumerate(sorted(online)):
            await site.ask(producer, query_id, value, headers, number % PARTITIONS)
        await until(lambda: batches.waiting()[0] == len(online))
        assert batches.waiting()[1] <= MAX_BATCH + 32, "of offline queries a batch waits, and what was read with it"
        batches.go.set()
        found = await results.until(len(flood) + len(online))
    assert {result.status for result in found.values()} == {"ok"}
    assert Counter(result.id for result in results.all) == Counter(flood | online)
    first, *others = batches.ids
    assert flood.issuperset(first), "the one that was under way"
    assert {query_id for batch in others[:2] for query_id in batch} == online, "then what is online, and nothing else"


async def test_offline_flood_moves_with_partition(site: Site, producer: Producer) -> None:
    await site.register()
    async with results_of(site) as results, site.worker("cpu-a"), site.worker("cpu-b"):
        await site.place("cpu-a")
        asked = await site.flood(producer, "before", 1000)
        await results.until(200)
        await site.place("cpu-b", [1])
        await site.place("cpu-a", [0])
        asked |= await site.flood(producer, "meanwhile", 1000)
        await results.until(len(asked) - 200)
        asked |= await site.flood(producer, "after", 200)
        await results.until(len(asked))
        while results.workers != {"cpu-a", "cpu-b"}:
            asked |= await site.flood(producer, f"late{len(asked)}-", PARTITIONS)
            await results.until(len(asked))
        asked |= await site.flood(producer, "last", 200)
        found = await results.until(len(asked))
    assert Counter(result.id for result in results.all) == Counter(asked)
    assert {found[f"last{number}"].worker for number in range(0, 200, 2)} == {"cpu-a"}
    assert {found[f"last{number}"].worker for number in range(1, 200, 2)} == {"cpu-b"}


async def test_offline_flood_survives_killed_worker(site: Site, producer: Producer) -> None:
    await site.register()
    async with results_of(site) as results, site.worker("cpu-b"):
        killed = site.spawn("cpu-a")
        try:
            await site.place("cpu-a")
            asked = await site.flood(producer, "q", 4000)
            await results.until(100)
        finally:
            killed.send_signal(signal.SIGKILL)
            await asyncio.to_thread(killed.wait)
        asked |= await site.flood(producer, "left", 100)  # queries that the first worker cannot have answered
        await site.unplace("cpu-a")
        await site.place("cpu-b")
        found = await results.until(len(asked))
    assert found.keys() == asked
    assert {result.status for result in results.all} == {"ok"}
    assert results.workers == {"cpu-a", "cpu-b"}


async def test_worker_creates_missing_offline_topic(site: Site, producer: Producer, kafka: KafkaSettings) -> None:
    await site.register()
    await delete_topics(kafka, [offline_variant_topic(site.variant)])
    both = frozenset(TopicPartition(topic, n) for topic in variant_topics(site.variant) for n in range(PARTITIONS))
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0")
        await read_until(lambda: partitions_of(kafka, variant_topics(site.variant)), lambda found: found == both)
        asked = await site.flood(producer, "q", 50)
        found = await results.until(50)
    assert {query_id: result.status for query_id, result in found.items()} == dict.fromkeys(asked, "ok")
