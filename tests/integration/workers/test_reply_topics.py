"""Tests of reply topics that accept no results: only the queries that name them are affected."""

import asyncio
from collections.abc import Generator, Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from broker.dead_letters.letter import parse_letter
from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from schemas import headers as h
from schemas.topics import DEAD_LETTERS, variant_topic
from tests.integration.workers.conftest import PARTITIONS, Site
from tests.kafka_cluster import first_broker, joined
from tests.waiting import PATIENCE_S, read_until

BAD, GOOD = 2_500, 40
TIMEOUT_MS = 5_000
"""Request timeout of the clients; their first request may go to the suspended broker."""
ANSWERED_S = PATIENCE_S
"""Seconds in which a good query must be answered, regardless of the bad ones."""


async def reply_topic(site: Site, broker: int = 1, **configs: str) -> str:
    """Create a client's topic on one of the brokers; return its name."""
    name = f"replies-{uuid4().hex[:10]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=site.kafka.bootstrap)
    await admin.start()
    try:
        topic_configs = {key.replace("_", "."): value for key, value in configs.items()}
        await admin.create_topics([NewTopic(name, -1, -1, {0: [broker]}, topic_configs)])
    finally:
        await admin.close()
    return name


async def ask(site: Site, replies: str, prefix: str, count: int, more: Mapping[str, str] = {}) -> None:
    """Send queries as any Kafka client does."""
    value, headers = site.value()
    async with AIOKafkaProducer(bootstrap_servers=site.kafka.bootstrap, request_timeout_ms=TIMEOUT_MS) as producer:
        for number in range(count):
            query = f"{prefix}{number}".encode()
            fields = [(h.ID, query), (h.REPLY_TO, replies.encode()), (h.TASK, site.task.encode())]
            fields += [(name, text.encode()) for name, text in more.items()]
            await producer.send(
                variant_topic(site.variant),
                value,
                key=query,
                headers=[*headers, *fields],
                partition=number % PARTITIONS,
            )


async def answered(site: Site, replies: str, count: int) -> set[str]:
    """Wait for `count` answered queries in a topic; return their ids."""
    found = set[str]()
    async with AIOKafkaConsumer(
        replies, bootstrap_servers=site.kafka.bootstrap, auto_offset_reset="earliest", request_timeout_ms=TIMEOUT_MS
    ) as consumer:
        while len(found) < count:
            record = await consumer.getone()
            fields = dict(record.headers)
            assert fields[h.STATUS] == b"ok", record.value
            found.add(fields[h.ID].decode())
    return found


def dead_letters(site: Site) -> Tail:
    """Return a reader of the dead letters.

    It must start while all brokers answer, because the start of a client may need any of them.
    """
    return Tail(site.kafka, "test-letters", [DEAD_LETTERS], since_ms=1)


async def letters_of(site: Site, tail: Tail, count: int) -> set[str]:
    """Wait for `count` dead letters of the site's queries; return the queries' ids."""
    ids = set[str]()

    def seen(records: list[Record]) -> bool:
        letters = [parse_letter(record) for record in records]
        ids.update(
            dict(letter.headers)[h.ID].decode() for letter in letters if letter.topic == variant_topic(site.variant)
        )
        return len(ids) >= count

    await read_until(tail.poll, seen)
    return ids


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafkas")


@pytest.fixture(scope="module")
def kafka(home: Path) -> Generator[KafkaSettings]:
    """Run a broker that has all topics of the system and that another broker may join."""
    with first_broker(home / "first") as settings:
        yield settings


async def others_are_answered(site: Site, tail: Tail, bad: str, good: str) -> None:
    """Send many queries with undeliverable results, and some with deliverable ones; assert the answers."""
    await ask(site, bad, "bad", BAD)
    async with asyncio.timeout(ANSWERED_S):
        await ask(site, good, "good", GOOD)
        assert await answered(site, good, 1 + GOOD) == {"first0"} | {f"good{n}" for n in range(GOOD)}
    assert await letters_of(site, tail, BAD) == {f"bad{number}" for number in range(BAD)}


async def test_refusing_reply_topic_does_not_delay_others(site: Site) -> None:
    await site.register()
    bad, good = await reply_topic(site, message_timestamp_before_max_ms="0"), await reply_topic(site)
    async with site.worker("cpu-0"), asyncio.timeout(3 * PATIENCE_S):
        await site.place("cpu-0")
        await ask(site, good, "first", 1)
        await answered(site, good, 1)
        async with dead_letters(site) as tail:
            await others_are_answered(site, tail, bad, good)


@pytest.mark.needs_minutes
async def test_leaderless_reply_topic_does_not_delay_others(site: Site, home: Path) -> None:
    site.kafka = site.kafka.model_copy(update={"request_timeout_ms": 3_000, "result_timeout_s": 5.0})
    await site.register()
    good = await reply_topic(site)
    async with site.worker("cpu-0"), asyncio.timeout(3 * PATIENCE_S):
        await site.place("cpu-0")
        await ask(site, good, "first", 1)
        await answered(site, good, 1)
        with joined(site.kafka, home / "first", home / "second") as cluster:
            bad = await reply_topic(site, 2)
            await ask(site, bad, "before", 1)
            await answered(site, bad, 1)
            async with dead_letters(site) as tail, cluster.stopped(2):
                await others_are_answered(site, tail, bad, good)


async def test_undelivered_result_is_dead_letter_at_its_deadline(site: Site, home: Path) -> None:
    site.kafka = site.kafka.model_copy(update={"request_timeout_ms": 1_000, "result_timeout_s": 1_000.0})
    await site.register()
    async with site.worker("cpu-0"), asyncio.timeout(3 * PATIENCE_S):
        await site.place("cpu-0")
        with joined(site.kafka, home / "first", home / "third") as cluster:
            bad = await reply_topic(site, 2)
            await ask(site, bad, "before", 1)
            await answered(site, bad, 1)
            async with dead_letters(site) as tail, cluster.stopped(2):
                await ask(site, bad, "hurried", 3, {h.LATENCY_MS: "2000", h.ALLOW_LATE: "true"})
                assert await letters_of(site, tail, 3) == {f"hurried{number}" for number in range(3)}
