"""Offline queries at a real selector between a real broker and a real database; the worker does what it is told."""

import asyncio
import time

import msgspec

from broker.producer import Producer
from broker.tail import Tail
from schemas import headers as h
from schemas.status import Demand, InstanceState, InstanceStatus, PartitionStatus
from schemas.topics import DEMAND, offline_topic, offline_variant_topic, task_topic
from selector.offline_dispatcher import HELD
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.waiting import until

MANY = 2 * HELD


async def write(where: Stage, producer: Producer, name: str, count: int, topic: str = "", **needs: str) -> set[str]:
    """Ids of so many offline queries, which were written at once."""
    asked = {f"{name}-{number}" for number in range(count)}
    extra = [("infaas-" + need.replace("_", "-"), text.encode()) for need, text in needs.items()]
    sent = [
        await producer.send(
            topic or offline_topic(where.task),
            b"{}",
            key=query_id.encode(),
            headers=[(h.ID, query_id.encode()), (h.REPLY_TO, where.replies.encode()), *extra],
        )
        for query_id in asked
    ]
    await asyncio.gather(*sent)
    return asked


def serve(where: Stage, position: int) -> None:
    """Have the worker say that it has read so far, and has nothing left."""
    where.said = [
        msgspec.structs.replace(
            said, offline_partitions=tuple(PartitionStatus(p.partition, position, position) for p in said.partitions)
        )
        for said in where.said
    ]


def slow(where: Stage) -> None:
    """Have the worker say that it is slow: then little is enough to keep it busy."""
    where.said = [msgspec.structs.replace(said, slowdown=10.0) for said in where.said]


async def test_what_an_instance_cannot_take_waits_and_holds_up_no_other_task(stage: Stage, client: Producer) -> None:
    slow(stage)
    other = Stage(stage.kafka, stage.pool, stage.dsn)
    await other.prepare()
    async with Tail(stage.kafka, "other ears", [offline_variant_topic(other.cheap)]) as tail, selecting(stage):
        flood = await write(stage, client, "flood", MANY)  # the worker never says that it has read one
        await stage.wait(offline_variant_topic(stage.cheap))
        other.said = [msgspec.structs.replace(s, variant=other.cheap) for s in stage.said[:1]]
        async with asyncio.TaskGroup() as tasks:
            speaking = tasks.create_task(other.speak(client))
            asked = await write(other, client, "other", 3)
            found: set[str] = set()
            async with asyncio.timeout(WAIT_S):
                while found != asked:
                    found |= {fields(record)[h.ID] for record in await tail.poll()}
            speaking.cancel()
        sent = {fields(record)[h.ID] for record in stage.heard.get(offline_variant_topic(stage.cheap), [])}
        assert len(sent) < len(flood) // 2
        assert all(fields(r)[h.MODE] == "offline" for r in stage.heard.get(offline_variant_topic(stage.cheap), []))


async def test_what_is_held_is_read_again_by_whoever_comes_next(stage: Stage, client: Producer) -> None:
    slow(stage)
    async with selecting(stage):
        asked = await write(stage, client, "held", MANY, target=stage.cheap)
        first = {fields(record)[h.ID] for record in await stage.wait(offline_variant_topic(stage.cheap))}
    first |= {fields(record)[h.ID] for record in stage.heard.pop(offline_variant_topic(stage.cheap), [])}
    assert first < asked
    serve(stage, 100_000)  # all that is sent from now on counts as read at once
    seen = set(first)
    async with selecting(stage), asyncio.timeout(WAIT_S):
        while seen < asked:
            seen |= {fields(record)[h.ID] for record in await stage.wait(offline_variant_topic(stage.cheap))}


async def test_an_offline_query_in_the_online_topic_is_moved_and_keeps_its_deadline(
    stage: Stage,
    client: Producer,
) -> None:
    async with Tail(stage.kafka, "offline ears", [offline_topic(stage.task)]) as tail, selecting(stage):
        sent_ms = time.time() * 1000
        asked = await write(stage, client, "moved", 1, task_topic(stage.task), mode="offline", latency_ms="60000")
        (moved,) = await tail.poll()
        assert {fields(moved)[h.ID]} == asked
        assert fields(moved)[h.MODE] == "offline"
        assert abs(float(fields(moved)[h.DEADLINE_MS]) - sent_ms - 60_000) < 20_000
        (forwarded,) = await stage.wait(offline_variant_topic(stage.cheap))
        assert {fields(forwarded)[h.ID]} == asked
        assert fields(forwarded)[h.DEADLINE_MS] == fields(moved)[h.DEADLINE_MS]


async def test_a_deadline_that_passes_before_an_instance_is_idle_is_answered(stage: Stage, client: Producer) -> None:
    slow(stage)
    async with selecting(stage):
        await write(stage, client, "first", 200)
        await stage.wait(offline_variant_topic(stage.cheap))  # the worker has its fill
        asked = await write(stage, client, "late", 1, latency_ms="700")
        (record,) = await stage.wait(stage.replies)
        assert {fields(record)[h.ID]} == asked
        assert fields(record)[h.STATUS] == "deadline_exceeded"


async def test_what_nobody_serves_is_demanded_and_is_in_nobodys_way(stage: Stage, client: Producer) -> None:
    stage.said = stage.said[:1]
    serve(stage, 100_000)
    async with selecting(stage):
        await write(stage, client, "unserved", MANY, target=stage.good)
        (record, *_) = await stage.wait(DEMAND)
        demand = msgspec.json.decode(record.value or b"", type=Demand)
        assert (demand.variant, demand.reason) == (stage.good, "an offline query waits for it")
        asked = await write(stage, client, "served", 2)
        seen: set[str] = set()
        async with asyncio.timeout(WAIT_S):
            while seen < asked:
                seen |= {fields(record)[h.ID] for record in await stage.wait(offline_variant_topic(stage.cheap))}
        assert not stage.heard.get(offline_variant_topic(stage.good))


async def test_what_cannot_be_loaded_is_refused_and_demanded_all_the_same(stage: Stage, client: Producer) -> None:
    stage.said = [stage.said[0], InstanceStatus(variant=stage.good, state=InstanceState.FAILED, reason="no room")]
    async with selecting(stage) as selector:
        failed = selector._state._failed  # pyright: ignore[reportPrivateUsage]
        await until(lambda: stage.good in failed.reasons)
        asked = await write(stage, client, "failed", 1, target=stage.good)
        (reply,) = await stage.wait(stage.replies)
        assert {fields(reply)[h.ID]} == asked
        assert fields(reply)[h.STATUS] == "model_failed"
        (record, *_) = await stage.wait(DEMAND)
        demand = msgspec.json.decode(record.value or b"", type=Demand)
        assert (demand.variant, demand.reason) == (stage.good, "a query was refused for want of it")
