"""Tests of batch jobs from topic to topic: processes join, leave and die; each record has one outcome."""

import asyncio
import json
from asyncio.subprocess import Process
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from broker.kafka.client import open_admin
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from infaas.cli.output import EXIT_PARTIAL
from tests.load import Pace
from tests.system.infaas.conftest import Cli
from tests.system.infaas.plain_client import query
from tests.waiting import until
from zoo.samples import labelled

pytestmark = pytest.mark.needs_minutes

IN, OUT, FAILED, GROUP = "images", "digits", "digits.failed", "a-job"
PARTITIONS = 6
JOB = (
    *("batch", f"topic:{IN}", f"topic:{OUT}", "--task=digits"),
    *(f"--group={GROUP}", "--rows-per-query=8", "--answer-only"),
)
BROKEN = 5
PATIENCE_S = 300.0


async def test_batch_topics_answer_each_record_once(shared: Cli) -> None:
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
        kafka = KafkaSettings(bootstrap=(await shared.state())["kafka"])
        await shared.register("digits_linear.onnx", "--name=digits-linear", task="digits")
        await ensure_topics(kafka, [TopicSpec(IN, PARTITIONS), TopicSpec(OUT, PARTITIONS)])
        outcomes = await stack.enter_async_context(read_outcomes(kafka))
        async with write_steadily(kafka) as asked:
            first, second = [await stack.enter_async_context(job(shared)) for _ in range(2)]
            await until_shared(kafka, 2)
            await outcomes.grow()
            third = await stack.enter_async_context(job(shared))
            await until_shared(kafka, 3)
            await outcomes.grow()
            first.kill()
            await until_shared(kafka, 2)
            await outcomes.grow()
        second.terminate()
        code, told, err = await shared.run(*JOB, "--json")  # stops at the end of the topic
        assert code == 0, err
        assert json.loads(told)["failed"] == 0
        third.terminate()
        assert {await second.wait(), await third.wait()} <= {0, EXIT_PARTIAL}
        await until(lambda: outcomes.ids.keys() >= asked)
        outcomes.check(asked)


class Outcomes:
    """Outcomes that a reader of committed records finds in the output topics."""

    def __init__(self) -> None:
        self.ids = Counter[str]()
        self.by_partition = defaultdict[int, list[ConsumerRecord[bytes | None, bytes | None]]](list)
        self.failed = list[ConsumerRecord[bytes | None, bytes | None]]()

    async def grow(self) -> None:
        """Wait until more than a hundred further outcomes have arrived."""
        seen = self.ids.total()
        await until(lambda: self.ids.total() > seen + 100)

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            self.ids[dict(record.headers)["id"].decode()] += 1
            if record.topic == FAILED:
                self.failed.append(record)
            else:
                self.by_partition[record.partition].append(record)

    def check(self, asked: set[str]) -> None:
        assert self.ids.keys() == asked
        assert self.ids.total() == len(asked)
        for number, records in self.by_partition.items():
            ids = [int(dict(record.headers)["id"]) for record in records]
            assert ids == sorted(ids)
            assert {number % PARTITIONS for number in ids} == {number}
            assert {record.key for record in records} == {b"%d" % number}
            values = [json.loads(record.value or b"") for record in records]
            assert {"logits" in value or value["outputs"][0]["name"] == "logits" for value in values} == {True}
            assert not any("input" in value for value in values)
        assert [dict(record.headers)["infaas-status"] for record in self.failed] == [b"invalid_request"] * BROKEN


@asynccontextmanager
async def read_outcomes(kafka: KafkaSettings) -> AsyncGenerator[Outcomes]:
    outcomes = Outcomes()
    await ensure_topics(kafka, [TopicSpec(FAILED)])
    reader = AIOKafkaConsumer(
        *(OUT, FAILED),
        bootstrap_servers=kafka.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with reader as consumer, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(outcomes.read(consumer))
        yield outcomes
        reading.cancel()


@asynccontextmanager
async def write_steadily(kafka: KafkaSettings) -> AsyncGenerator[set[str]]:
    """Write rows and requests, over the partitions in turn, the first ones invalid; yield the ids written."""
    asked, stopping = set[str](), False
    image = labelled("digits")[0]["input"][0]
    values = [json.dumps({"input": image.tolist()}).encode(), query()]

    async def write(producer: AIOKafkaProducer) -> None:
        async for number in Pace(400):
            if stopping:
                return
            value = b"broken" if number < BROKEN else values[number % 2]
            partition = number % PARTITIONS
            headers = [("id", b"%d" % number)]
            await producer.send_and_wait(IN, value, b"%d" % partition, partition=partition, headers=headers)
            asked.add(str(number))

    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer, asyncio.TaskGroup() as tasks:
        tasks.create_task(write(producer))
        yield asked
        stopping = True


@asynccontextmanager
async def job(cli: Cli, *words: str) -> AsyncGenerator[Process]:
    """Run a process of a job with `--follow` while the context is open."""
    process = await cli.start(*(words or JOB), "--follow")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        _, err = await process.communicate()
        print(err.decode())


async def until_shared(kafka: KafkaSettings, members: int, group: str = GROUP) -> None:
    """Wait until a group is stable with `members` members."""

    async def shared() -> bool:
        async with open_admin(kafka) as admin:
            (answer,) = await admin.describe_consumer_groups([group])
        ((_, _, state, _, _, found, *_),) = cast(Any, answer).groups
        return state == "Stable" and len(found) == members

    await until(shared)


# -- a table -----------------------------------------------------------------------------------------------------------
TABLE, RATED, RATING = "shop.reviews", "shop.ratings", "ratings"
TABLE_JOB = (
    *("batch", f"topic:{TABLE}", f"topic:{RATED}", "--task=digits"),
    *(f"--group={RATING}", "--rows-per-query=4"),
)
ROWS, ROUNDS = 100, 10


async def test_batch_topics_follow_a_table(shared: Cli) -> None:
    """Changes of a table, as Debezium writes them, have one outcome each, though one of two processes is killed."""
    async with asyncio.timeout(PATIENCE_S):
        kafka = KafkaSettings(bootstrap=(await shared.state())["kafka"])
        await shared.register("digits_linear.onnx", "--name=digits-linear", task="digits")
        await ensure_topics(kafka, [TopicSpec(TABLE, 2), TopicSpec(RATED, 2)])
        reader = AIOKafkaConsumer(
            RATED, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        async with reader as rated:
            async with job(shared, *TABLE_JOB) as first, job(shared, *TABLE_JOB), asyncio.TaskGroup() as tasks:
                await until_shared(kafka, 2, RATING)
                writing = tasks.create_task(write_changes(kafka))
                found = [await anext(rated)]
                first.kill()
            written, table = writing.result()
            code, told, err = await shared.run(*TABLE_JOB, "--json")
            assert code == 0, err
            assert json.loads(told)["failed"] == 0
            while len(found) < len(written) or await behind(rated):
                for records in (await rated.getmany(timeout_ms=100)).values():
                    found += records
        assert sorted(dict(one.headers)["number"] for one in found) == sorted(written)
        state = dict[bytes, Any]()
        for record in found:  # each partition in its order
            assert record.key is not None
            state[record.key] = record.value and json.loads(record.value)
        answered = {key: row and {name: row[name] for name in ("id", "input", "version")} for key, row in state.items()}
        assert answered == table
        assert {len(row["logits"]) for row in state.values() if row} == {10}


async def behind(consumer: AIOKafkaConsumer) -> bool:
    """Return true if there are committed records, or markers of transactions, that the consumer has not read."""
    ends = await consumer.end_offsets(list(consumer.assignment()))
    return any([await consumer.position(partition) < end for partition, end in ends.items()])


async def write_changes(kafka: KafkaSettings) -> tuple[list[bytes], dict[bytes, Any]]:
    """Write changes of a table; return their numbers, and the table's rows by key, None for a deleted row."""
    images = labelled("digits")[0]["input"]
    written, table = list[bytes](), dict[bytes, Any]()
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:

        async def write(number: int, value: object) -> None:
            written.append(b"%d" % len(written))
            text = None if value is None else json.dumps(value).encode()
            headers = [("number", written[-1])]
            await producer.send_and_wait(TABLE, text, b"%d" % number, partition=number % 2, headers=headers)

        for turn in range(ROUNDS):
            for number in range(ROWS):
                key = b"%d" % number
                before = table.get(key)
                if before and (number + turn) % 4 == 0:
                    table[key] = None
                    await write(number, {"before": before, "after": None, "source": {}, "op": "d"})
                    await write(number, None)
                    continue
                after = {"id": number, "input": images[number].tolist(), "version": turn}
                change = {"before": before, "after": after, "source": {}, "op": "u" if before else "c"}
                table[key] = after
                await write(number, {"schema": {}, "payload": change} if number % 3 else change)
    return written, table
