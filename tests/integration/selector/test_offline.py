"""Tests of offline queries, at a real selector with a real broker and database; the test sets the worker's status."""

import asyncio
import time

import msgspec

from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.status import Demand, InstanceState, InstanceStatus, PartitionStatus
from schemas.topics import DEMAND, offline_topic, offline_variant_topic, task_topic
from selector.dispatch.held_queries import HELD
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.waiting import until

MANY = 2 * HELD


async def write(where: Stage, producer: Producer, name: str, count: int, topic: str = "", **needs: str) -> set[str]:
    """Write offline queries all at once; return their ids."""
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
    """Set the worker's status: it has read up to this position and has no backlog."""
    where.said = [
        msgspec.structs.replace(
            said, offline_partitions=tuple(PartitionStatus(p.partition, position, position) for p in said.partitions)
        )
        for said in where.said
    ]


def slow(where: Stage) -> None:
    """Set the status of a slow worker, which few queries keep busy."""
    where.said = [msgspec.structs.replace(said, slowdown=10.0) for said in where.said]


async def test_offline_backlog_blocks_no_other_task(stage: Stage, client: Producer) -> None:
    slow(stage)
    other = Stage(stage.kafka, stage.pool, stage.dsn)
    await other.prepare()
    async with Tail(stage.kafka, "other ears", [offline_variant_topic(other.cheap)]) as tail, selecting(stage):
        flood = await write(stage, client, "flood", MANY)  # the worker's status never reports a query as read
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


async def test_held_offline_queries_go_to_next_selector(stage: Stage, client: Producer) -> None:
    slow(stage)
    async with selecting(stage):
        asked = await write(stage, client, "held", MANY, target=stage.cheap)
        first = {fields(record)[h.ID] for record in await stage.wait(offline_variant_topic(stage.cheap))}
    first |= {fields(record)[h.ID] for record in stage.heard.pop(offline_variant_topic(stage.cheap), [])}
    assert first < asked
    serve(stage, 100_000)  # from here on, each query counts as read as soon as it is sent
    seen = set(first)
    async with selecting(stage), asyncio.timeout(WAIT_S):
        while seen < asked:
            seen |= {fields(record)[h.ID] for record in await stage.wait(offline_variant_topic(stage.cheap))}


async def test_offline_query_in_online_topic_is_moved(
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


async def test_offline_query_expires_while_instances_are_busy(stage: Stage, client: Producer) -> None:
    slow(stage)
    async with selecting(stage):
        await write(stage, client, "first", 200)
        await stage.wait(offline_variant_topic(stage.cheap))  # the worker is full from here on
        asked = await write(stage, client, "late", 1, latency_ms="700")
        (record,) = await stage.wait(stage.replies)
        assert {fields(record)[h.ID]} == asked
        assert fields(record)[h.STATUS] == "deadline_exceeded"


async def test_unserved_offline_queries_demand_variant(stage: Stage, client: Producer) -> None:
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


async def test_offline_query_for_failed_variant_is_refused(stage: Stage, client: Producer) -> None:
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
        assert (demand.variant, demand.reason) == (stage.good, "a query was refused because it is not loaded")
