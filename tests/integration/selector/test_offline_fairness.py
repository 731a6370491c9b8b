"""Tests of fairness between tenants' offline queries, sent by plain aiokafka to a real selector."""

import asyncio
from collections import Counter
from uuid import uuid4

import msgspec
from aiokafka import AIOKafkaProducer

from broker.kafka.topics import partitions_of
from registry.tenants import create_tenant
from schemas import headers as h
from schemas.rows.tenants import Tenant
from schemas.status import PartitionStatus
from schemas.topics import LANES, ingress_topic, offline_of, offline_topic, offline_variant_topic
from selector.dispatch.held_queries import HELD
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.unit.selector.story import instance
from tests.waiting import until

FLOOD, JOB = 3000, 30
ONE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'


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


async def write(producer: AIOKafkaProducer, topic: str, count: int, **named: str) -> set[str]:
    more = [("infaas-" + name, text.encode()) for name, text in named.items()]
    ids = [uuid4().hex for _ in range(count)]
    sent = [
        await producer.send(topic, ONE, key=query_id.encode(), headers=[(h.ID, query_id.encode()), *more])
        for query_id in ids
    ]
    await asyncio.gather(*sent)
    return set(ids)


async def test_small_job_does_not_wait_for_the_flood_before_it(stage: Stage) -> None:
    worker = ManualWorker(stage)
    worker.take()
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap, linger_ms=5) as producer:
        flood = await write(producer, offline_topic(stage.task), FLOOD, tenant="flood")
        job = await write(producer, offline_topic(stage.task), JOB, tenant="small")
        async with selecting(stage):
            await worker.compute_until(JOB, "small")
            before = worker.tenants.count("flood")
            assert before < FLOOD // 2
            await worker.compute_until(FLOOD, "flood")
    assert set(worker.ids) == flood | job


async def test_small_job_beside_held_flood_takes_turns_with_it(stage: Stage) -> None:
    """All of the flood is read, and most of it moved to a lane, before the first query is computed."""
    worker = ManualWorker(stage)
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap, linger_ms=5) as producer:
        flood = await write(producer, offline_topic(stage.task), FLOOD, tenant="flood")
        job = await write(producer, offline_topic(stage.task), JOB, tenant="small")
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


async def test_flood_in_one_tenants_topic_leaves_turns_to_anothers(stage: Stage) -> None:
    names = [f"flood{uuid4().hex[:6]}", f"small{uuid4().hex[:6]}"]
    for name in names:
        await create_tenant(stage.pool, stage.kafka, Tenant(name=name, partitions=1))
    worker = ManualWorker(stage)
    worker.take()
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap, linger_ms=5) as producer, selecting(stage):
        flood = await write(producer, offline_of(ingress_topic(names[0])), 4 * HELD, task=stage.task)
        await worker.compute_until(20, names[0])
        job = await write(producer, offline_of(ingress_topic(names[1])), JOB, task=stage.task)
        await worker.compute_until(JOB, names[1])
        assert worker.tenants.count(names[0]) < 3 * HELD
        await worker.compute_until(len(flood), names[0])
    assert set(worker.ids) == flood | job


async def test_lanes_topic_has_expected_partitions(stage: Stage) -> None:
    assert len(await partitions_of(stage.kafka, [LANES])) == 16
