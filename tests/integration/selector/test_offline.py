"""Tests of offline queries, at a real selector with a real broker and database; the test sets the worker's status."""

import asyncio
import time
from collections import Counter
from uuid import uuid4

import msgspec

from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from registry.tenants import create_tenant
from schemas import headers as h
from schemas.rows.tenants import Tenant
from schemas.status import Demand, InstanceState, InstanceStatus, PartitionStatus
from schemas.topics import (
    DEMAND,
    ingress_topic,
    offline_of,
    offline_topic,
    offline_variant_topic,
    task_topic,
    variant_topic,
)
from selector.dispatch.held_queries import HELD
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.unit.selector.story import instance
from tests.waiting import until

MANY = 2 * HELD
FLOOD, JOB = 4 * HELD, 30


async def write(where: Stage, producer: Producer, name: str, count: int, topic: str = "", **needs: str) -> set[str]:
    """Write offline queries all at once; return their ids. Those of a tenant's own topic name their task."""
    asked = {f"{name}-{number}" for number in range(count)}
    extra = [("infaas-" + need.replace("_", "-"), text.encode()) for need, text in needs.items()]
    extra += [] if "task" in needs else [(h.REPLY_TO, where.replies.encode())]
    sent = [
        await producer.send(
            topic or offline_topic(where.task),
            b"{}",
            key=query_id.encode(),
            headers=[(h.ID, query_id.encode()), *extra],
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


async def test_offline_query_in_online_topic_is_moved(stage: Stage, client: Producer) -> None:
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
    async with selecting(stage):
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))  # the status has been read
        asked = await write(stage, client, "failed", 1, target=stage.good)
        (reply,) = await stage.wait(stage.replies)
        assert {fields(reply)[h.ID]} == asked
        assert fields(reply)[h.STATUS] == "model_failed"
        (record, *_) = await stage.wait(DEMAND)
        demand = msgspec.json.decode(record.value or b"", type=Demand)
        assert (demand.variant, demand.reason) == (stage.good, "a query was refused because it is not loaded")


# -- turns of tenants --------------------------------------------------------------------------------------------------


class ManualWorker:
    """A worker that computes its queries when the test calls it, and then reports them in its status."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._topic = offline_variant_topic(stage.cheap)
        self.tenants: list[str] = []
        """Tenants of all queries received, in order."""
        self._given = Counter[int]()
        self.ids: list[str] = []

    def be_busy(self) -> None:
        """Report a full queue."""
        self.take()
        self._stage.said = [msgspec.structs.replace(said, queued_offline_inputs=100_000) for said in self._stage.said]

    def take(self) -> None:
        """Compute all queries received; the next status reports them."""
        for record in self._stage.heard.pop(self._topic, []):
            self.tenants.append(fields(record).get(h.TENANT, ""))
            self.ids.append(fields(record)[h.ID])
            self._given[record.partition] += 1
        said = msgspec.structs.replace(
            instance(self._stage.cheap, partitions=(0, 1), slowdown=10.0),
            partitions=tuple(PartitionStatus(p, 0, 0) for p in (0, 1)),
            offline_partitions=tuple(PartitionStatus(p, self._given[p], self._given[p]) for p in (0, 1)),
        )
        self._stage.said = [said]

    async def compute_until(self, count: int, tenant: str) -> None:
        """Compute until `count` queries of a tenant are done."""

        async def done() -> bool:
            self.take()
            return self.tenants.count(tenant) >= count

        await until(done, 3 * WAIT_S)


async def test_small_job_beside_held_flood_takes_turns_with_it(stage: Stage, client: Producer) -> None:
    """All of the flood is read, and most of it moved to a lane, before the first query is computed."""
    worker = ManualWorker(stage)
    flood = await write(stage, client, "flood", FLOOD, tenant="flood")
    job = await write(stage, client, "small", JOB, tenant="small")
    worker.be_busy()
    async with selecting(stage) as selector:
        held = selector._offline  # pyright: ignore[reportPrivateUsage]
        await until(lambda: held.held >= 2 * HELD + JOB, 3 * WAIT_S)  # the topic's, the lane's and the job's
        worker.take()
        await worker.compute_until(JOB, "small")
        place = [number for number, tenant in enumerate(worker.tenants) if tenant == "small"][-1]
        assert place <= 3 * JOB, "of what is given out about every second query is the job's"
        await worker.compute_until(FLOOD, "flood")
    assert set(worker.ids) == flood | job


async def test_flood_in_one_tenants_topic_leaves_turns_to_anothers(stage: Stage, client: Producer) -> None:
    flooding, small = f"flood{uuid4().hex[:6]}", f"small{uuid4().hex[:6]}"
    for name in (flooding, small):
        await create_tenant(stage.pool, stage.kafka, Tenant(name=name, partitions=1))
    worker = ManualWorker(stage)
    worker.take()
    async with selecting(stage):
        flood = await write(stage, client, "flood", FLOOD, offline_of(ingress_topic(flooding)), task=stage.task)
        await worker.compute_until(20, flooding)
        job = await write(stage, client, "small", JOB, offline_of(ingress_topic(small)), task=stage.task)
        await worker.compute_until(JOB, small)
        assert worker.tenants.count(flooding) < 3 * HELD
        await worker.compute_until(FLOOD, flooding)
    assert set(worker.ids) == flood | job
