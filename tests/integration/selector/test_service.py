"""Tests of a real selector with a real broker and database; the test sets the worker's status."""

import asyncio
import time
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from msgspec.structs import replace

from broker.dead_letters.letter import SHORTENED, parse_letter
from broker.delivery.consumer import Consumer, Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from broker.replies.request_reply import RequestReply
from registry.topics import grow_task_topics, grow_variant_topics
from schemas import headers as h
from schemas.load_classes import ClassCount, LoadClass, SelectorLoad
from schemas.query import Query
from schemas.result import error_message
from schemas.rows.removals import RegisteredNames
from schemas.status import Demand, PartitionStatus
from schemas.topics import DEAD_LETTERS, DEMAND, LOAD, task_topic, variant_topic
from selector.policy.selection import choose
from store.pool import Pool
from store.removals import mark_removing
from tests.integration.broker.raw_batches import batch_of, write_batch
from tests.integration.broker.test_reply_stream import streamed as results_streamed
from tests.integration.selector.stage import WAIT_S, Stage, empty, fields, selecting
from tests.processes import output_of, service, variables_of
from tests.proxies import entrance
from tests.unit.selector.story import instance
from tests.waiting import read_until, until


async def test_selector_forwards_query_with_choice(stage: Stage, client: Producer) -> None:
    began_ms = time.time() * 1000
    async with selecting(stage):
        query_id = await stage.ask(client, b'{"inputs": []}', latency_ms="10000", min_accuracy="0.85", tenant="acme")
        (record,) = await stage.wait(variant_topic(stage.good))
    got = fields(record)
    assert (record.key, record.value, record.partition) == (query_id.encode(), b'{"inputs": []}', 0)
    assert got[h.ID] == query_id
    assert got[h.TENANT] == "acme"
    assert got[h.TASK] == stage.task
    assert got[h.REPLY_TO] == stage.replies
    assert got[h.VARIANT] == stage.good
    assert float(got[h.ACCURACY]) == 0.9
    assert float(got[h.COST]) > 0
    assert began_ms - 1000 <= float(got[h.DEADLINE_MS]) - 10_000 <= time.time() * 1000 + 1000
    assert 0 < int(got[h.PREDICTED_NS]) < 5e9
    assert int(got[h.TASK_QUEUE_NS]) >= 0
    assert abs(int(got[h.SENT_NS]) / 1e9 - time.time()) < WAIT_S


async def test_selector_forwards_earliest_deadline_first(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, poll = [90, 30, 70, 10, 50, 20], Consumer.poll

    async def poll_all(consumer: Consumer, most: int) -> list[Record]:
        records = await poll(consumer, most)
        while len(records) < len(seconds):
            records += await poll(consumer, most)
        return records

    monkeypatch.setattr(Consumer, "poll", poll_all)
    for latency_s in seconds:
        await stage.ask(client, latency_ms=str(1000 * latency_s))
    async with selecting(stage):
        got = map(fields, await stage.wait(variant_topic(stage.cheap), len(seconds)))
    deadlines_ms = [float(each[h.DEADLINE_MS]) for each in sorted(got, key=lambda each: int(each[h.SENT_NS]))]
    assert deadlines_ms == sorted(deadlines_ms)


async def test_selector_reports_load(stage: Stage, client: Producer) -> None:
    async with Tail(stage.kafka, "loads", [LOAD]) as loads, selecting(stage):
        await stage.ask(client, b"{}".ljust(12), latency_ms="10000", min_accuracy="0.85", batch="3")
        await stage.ask(client, min_accuracy="0.99")  # no variant could ever answer it, so it is no load
        await stage.wait(stage.replies)
        asked: list[ClassCount] = []
        sent_on: dict[str, int] = {}
        async with asyncio.timeout(WAIT_S):
            while not asked:
                for record in await loads.poll():
                    said = msgspec.json.decode(record.value or b"", type=SelectorLoad)
                    asked += [count for count in said.classes if count.load_class.task == stage.task]
                    sent_on |= said.variants
    (count,) = asked
    assert count.load_class == LoadClass(stage.task, None, 0.85, 8192.0, False)
    assert (count.queries, count.inputs, count.refused, count.upgraded) == (1, 3, 0, 0)
    assert sent_on[stage.good] == 3


async def test_selector_sends_refusal_by_reply_stream(stage: Stage) -> None:
    async with RequestReply(stage.kafka, uuid4().hex) as requests, selecting(stage), asyncio.timeout(WAIT_S):
        asked = [(h.ID, b"q"), (h.REPLY_TO, requests.reply_topic.encode()), (h.MIN_ACCURACY, b"0.99")]
        before = results_streamed()
        while results_streamed() == before:
            result = await requests.ask("q", task_topic(stage.task), b"{}", asked)
            assert result.status == "unsatisfiable"


async def test_selector_answers_refusals(stage: Stage, client: Producer) -> None:
    async with selecting(stage):
        query_id = await stage.ask(client, min_accuracy="0.99", explain="true")
        (record,) = await stage.wait(stage.replies)
        got = fields(record)
        assert (got[h.ID], got[h.STATUS], record.key) == (query_id, "unsatisfiable", query_id.encode())
        assert stage.good in error_message(record.value or b"")
        assert "is not accurate enough" in got[h.EXPLANATION]
        await stage.ask(client, target="nobody")
        (record,) = await stage.wait(stage.replies)
        assert fields(record)[h.STATUS] == "unknown_task"


async def test_unreadable_query_is_answered_and_dead_lettered(stage: Stage, client: Producer) -> None:
    """Whatever a record holds, it affects no other."""
    topic, name, reply_to = task_topic(stage.task), b"name\xff\xfe", stage.replies.encode()
    event = msgspec.json.encode({"specversion": "0.3", "id": "e-1", "replyto": stage.replies})

    async def answer_to(query_id: str) -> bytes:
        (record,) = await stage.wait(stage.replies)
        assert (fields(record)[h.ID], fields(record)[h.STATUS]) == (query_id, "invalid_request")
        return record.value or b""

    async with selecting(stage):
        query_id = await stage.ask(client, b"kept", latency_ms="soon")
        (letter,) = await stage.wait(DEAD_LETTERS)
        assert (letter.value, fields(letter)[h.LATENCY_MS]) == (b"kept", "soon")
        await answer_to(query_id)
        query_id = await stage.ask(client, latency="5")
        await stage.wait(DEAD_LETTERS)
        assert b"did you mean infaas-latency-ms?" in await answer_to(query_id)
        for value, headers in (
            (b"x", [(h.ID, b"i-1"), (h.REPLY_TO, reply_to), (h.TENANT, b"\xff")]),
            (event, [(h.CONTENT_TYPE, b"application/cloudevents+json")]),
        ):
            await client.send_and_wait(topic, value, headers=headers)
            await stage.wait(DEAD_LETTERS)
            await answer_to("e-1" if value is event else "i-1")
        records = [(b"poison", [(h.ID.encode(), b"i-1"), (h.REPLY_TO.encode(), reply_to), (name, b"x")])]
        await write_batch(stage.kafka, topic, 0, batch_of(records))
        (letter,) = await stage.wait(DEAD_LETTERS)
        await answer_to("i-1")
        kept = parse_letter(letter)
        assert kept.value == b"poison"
        assert [text for called, text in kept.headers if called.encode(errors="surrogateescape") == name] == [b"x"]
        for nobody in (b"x" * 40_000, b"../../etc/passwd", b"infaas.status", b"__consumer_offsets", b"\xff"):
            await client.send_and_wait(topic, b"lost", headers=[(h.ID, b"i-2"), (h.REPLY_TO, nobody)])
            (letter,) = await stage.wait(DEAD_LETTERS)
            assert parse_letter(letter).value == b"lost"
        for value in (b"\xff", b"[" * 100_000, b'{"specversion": "1.0", "id": "\\ud800"}', b'{"specversion": 1}'):
            await client.send_and_wait(topic, value, headers=[(h.CONTENT_TYPE, b"application/cloudevents+json")])
            (letter,) = await stage.wait(DEAD_LETTERS)
            assert parse_letter(letter).value == value
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))
        assert not stage.heard


async def test_internal_error_fails_only_its_query(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(query: Query, *args: Any) -> Any:
        if query.tenant == "unlucky":
            raise ZeroDivisionError
        return choose(query, *args)

    monkeypatch.setattr("selector.admission.overload.choose", fail)
    async with selecting(stage):
        query_id = await stage.ask(client, tenant="unlucky")
        (letter,) = await stage.wait(DEAD_LETTERS)
        (record,) = await stage.wait(stage.replies)
        assert fields(letter)[h.ID] == query_id
        assert (fields(record)[h.ID], fields(record)[h.STATUS]) == (query_id, "internal")
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))


async def test_query_too_large_to_forward_is_answered(stage: Stage, client: Producer) -> None:
    """With the headers of a forwarded query or a dead letter, the record exceeds the maximum size."""
    stage.kafka = stage.kafka.model_copy(update={"max_record_bytes": 20_000})
    async with selecting(stage):
        query_id = await stage.ask(client, b"x" * 19_700)
        (record,) = await stage.wait(stage.replies)
        assert (fields(record)[h.ID], fields(record)[h.STATUS]) == (query_id, "invalid_request")
        assert "19700 bytes" in error_message(record.value or b"")
        (letter,) = [letter for letter in await stage.wait(DEAD_LETTERS) if fields(letter)[h.ID] == query_id]
        assert fields(letter)[SHORTENED] == str(19_700 + len(query_id))
        await stage.ask(client, b"{}")
        await stage.wait(variant_topic(stage.cheap))


@pytest.mark.parametrize("spare", [300, 250])
async def test_query_that_kafka_refuses_blocks_no_watermark(stage: Stage, client: Producer, spare: int) -> None:
    """Here Kafka itself refuses the record. The end of the context waits until every record is done."""
    async with selecting(stage):
        before = [await stage.ask(client, b"{}") for _ in range(10)]
        assert {fields(record)[h.ID] for record in await stage.wait(variant_topic(stage.cheap), 10)} == set(before)
        await stage.ask(client, latency_ms="soon")
        await stage.wait(DEAD_LETTERS)
        await stage.wait(stage.replies)
        query_id = await stage.ask(client, b"x" * (stage.kafka.max_record_bytes - spare))
        (record,) = await stage.wait(stage.replies)
        assert (fields(record)[h.ID], fields(record)[h.STATUS]) == (query_id, "invalid_request")
        (letter,) = [letter for letter in await stage.wait(DEAD_LETTERS) if fields(letter)[h.ID] == query_id]
        assert SHORTENED in fields(letter)
        assert 1_000_000 < len(letter.value or b"") < stage.kafka.max_record_bytes - spare
        again = [await stage.ask(client, b"{}") for _ in range(10)]
        assert {fields(record)[h.ID] for record in await stage.wait(variant_topic(stage.cheap), 10)} == set(again)


async def test_refusals_to_missing_topics_block_no_query(stage: Stage, client: Producer) -> None:
    """Twelve times `max_in_flight` refusals, each to another missing topic, with valid queries among them."""
    replies = stage.replies
    async with selecting(stage, max_in_flight="40"), asyncio.TaskGroup() as tasks:
        for number in range(480):
            stage.replies = f"nowhere-{number}-{stage.task}"
            tasks.create_task(stage.ask(client, min_accuracy="0.99"))
            if number % 12 == 0:
                stage.replies = replies
                tasks.create_task(stage.ask(client))
            await asyncio.sleep(0)  # each task reads the reply topic of its own query
        await stage.wait(variant_topic(stage.cheap), 40)
        await stage.wait(DEAD_LETTERS)


async def test_selector_accepts_cloud_events(stage: Stage, client: Producer) -> None:
    event = {
        "specversion": "1.0", "id": "e-1", "source": "test", "type": "org.kubeflow.serving.inference.request",
        "replyto": stage.replies, "minaccuracy": 0.85, "data": {"inputs": []},
    }  # fmt: skip
    async with selecting(stage):
        await client.send_and_wait(
            task_topic(stage.task),
            msgspec.json.encode(event),
            headers=[("content-type", b"application/cloudevents+json; charset=UTF-8")],
        )
        (record,) = await stage.wait(variant_topic(stage.good))
        assert (fields(record)[h.ID], record.value) == ("e-1", b'{"inputs":[]}')
        await client.send_and_wait(
            task_topic(stage.task),
            b'{"inputs":[]}',
            headers=[
                ("ce_specversion", b"1.0"), ("ce_id", b"e-2"), ("ce_source", b"test"), ("ce_type", b"t"),
                ("ce_replyto", stage.replies.encode()),
            ],
        )  # fmt: skip
        (record,) = await stage.wait(variant_topic(stage.cheap))
        assert fields(record)[h.REPLY_TO] == stage.replies


async def test_selector_demands_unloaded_variant(stage: Stage, client: Producer) -> None:
    stage.said = stage.said[:1]
    async with selecting(stage):
        await stage.ask(client, min_accuracy="0.85", latency_ms="9000")
        (record,) = await stage.wait(variant_topic(stage.good))
        assert fields(record)[h.VARIANT] == stage.good
        (record,) = await stage.wait(DEMAND)
        assert msgspec.json.decode(record.value or b"", type=Demand).variant == stage.good


async def test_selector_follows_catalog(stage: Stage, client: Producer) -> None:
    other = Stage(stage.kafka, stage.pool, stage.dsn)
    other.replies = stage.replies
    stage.words |= other.words
    async with selecting(stage):
        await other.prepare()
        while True:  # until its variants, written after the task, are in the catalog
            await other.ask(client, min_accuracy="0.99")
            (record,) = await stage.wait(stage.replies)
            if other.good in error_message(record.value or b""):
                break
        async with stage.pool.transaction() as session:
            await mark_removing(session, RegisteredNames(other.task, (), ()))
        while True:  # until the change is in the catalog
            await other.ask(client, min_accuracy="0.99")
            (record,) = await stage.wait(stage.replies)
            if fields(record)[h.STATUS] == "unknown_task":
                break
        await stage.wait(DEAD_LETTERS)


async def test_selector_uses_new_partitions(stage: Stage, client: Producer) -> None:
    async with selecting(stage, attempts="1"):
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))
        await grow_variant_topics(stage.pool, stage.kafka, stage.cheap, 4)
        await grow_task_topics(stage.pool, stage.kafka, stage.task, 3)
        grown = instance(stage.cheap, partitions=(2, 3))
        stage.said = [msgspec.structs.replace(grown, partitions=empty(grown))]
        seen: set[int] = set()
        async with Tail(stage.kafka, "new ears", [variant_topic(stage.cheap)]) as tail, asyncio.timeout(WAIT_S):
            while not seen >= {2, 3}:  # until the new status has arrived
                await stage.ask(client, partition=2)
                seen |= {record.partition for record in await tail.poll()}
        assert DEAD_LETTERS not in stage.heard


async def test_selector_restart_loses_and_repeats_nothing(stage: Stage, client: Producer) -> None:
    asked: list[str] = []
    for _ in range(3):
        async with selecting(stage):
            asked += [await stage.ask(client) for _ in range(40)]
    async with selecting(stage):
        records = await stage.wait(variant_topic(stage.cheap), len(asked))
    assert sorted(fields(record)[h.ID] for record in records) == sorted(asked)


async def test_two_selectors_prefer_different_replicas(stage: Stage, client: Producer) -> None:
    def answer(ends: dict[int, int]) -> None:
        """Have each of two workers report that it has answered all queries of its partition."""
        stage.said, stage.others["z"] = (
            [replace(instance(stage.cheap), partitions=(PartitionStatus(n, ends[n], ends[n]),))] for n in (0, 1)
        )

    async def replicas_by_partition() -> list[set[int]]:
        """Return the partitions of the variant that got the queries of each partition of the task."""
        asked = [[await stage.ask(client, partition=n, latency_ms="60000") for _ in range(10)] for n in (0, 1)]
        records = await stage.wait(variant_topic(stage.cheap), 20)
        for record in records:
            ends[record.partition] = max(ends[record.partition], record.offset + 1)
        answer(ends)
        return [{record.partition for record in records if fields(record)[h.ID] in ids} for ids in asked]

    ends = {0: 0, 1: 0}
    answer(ends)
    async with selecting(stage), selecting(stage, instance_id="selector-1"):
        await read_until(replicas_by_partition, lambda found: found in ([{0}, {1}], [{1}, {0}]), WAIT_S)


async def test_selector_process_checks_starts_and_stops(stage: Stage, client: Producer) -> None:
    own = {"INFAAS_SELECTOR_UPGRADES": "false", "INFAAS_SELECTOR_INSTANCE_ID": f"of-{stage.task}"}
    environment = variables_of(stage.kafka, stage.dsn) | own
    code, output = await output_of("-m", "selector", "--check", env=environment)
    assert code == 0
    assert "Kafka: ok" in output
    assert stage.dsn not in output
    async with service("selector", env=environment) as serving:
        asked = [await stage.ask(client) for _ in range(20)]
        records = await stage.wait(variant_topic(stage.cheap), len(asked))
        serving.terminate()
        assert await serving.wait() == 0
    assert sorted(fields(record)[h.ID] for record in records) == sorted(asked)


async def test_task_registered_during_kafka_outage_is_served(
    stage: Stage, kafka: KafkaSettings, database: str, store_pool: Pool
) -> None:
    async with entrance(kafka) as (door, by_the_door):
        stage.kafka = by_the_door
        async with selecting(stage) as selector, asyncio.timeout(100):
            await until(lambda: selector.ready)
            late = Stage(kafka, store_pool, database)
            door.open = False
            await late.prepare()
            for _ in range(2):  # the second refusal comes after the last change of the catalog
                door.refused.clear()
                await door.refused.wait()
            door.open = True
            async with Producer(kafka, "late") as producer, Tail(kafka, "late", [late.replies]) as tail:
                await late.ask(producer, target="nobody")
                assert await tail.poll()
