"""Tests of untrue claims in record headers, sent by plain aiokafka to a real selector."""

import asyncio
import time
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from broker.fetch.tail import Tail
from process.security.signature import rejected_upstream_proof
from registry.tenants import create_tenant
from schemas import headers as h
from schemas.load_classes import SelectorLoad
from schemas.query import MAX_BATCH, MAX_REJECTED_UPSTREAM
from schemas.rows.tenants import Tenant
from schemas.topics import (
    LOAD,
    ingress_topic,
    offline_of,
    offline_topic,
    task_topic,
    tenant_results_topic,
    variant_topic,
)
from store.system import read_system_secret
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting

ONE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
"""A request of one input for the stage's task."""


async def send(producer: AIOKafkaProducer, topic: str, value: bytes, **claims: str) -> str:
    """Write a query with an id and these headers; return the id."""
    query_id = uuid4().hex
    headers = [(h.ID, query_id.encode())]
    headers += [("infaas-" + name.replace("_", "-"), text.encode()) for name, text in claims.items()]
    await producer.send_and_wait(topic, value, headers=headers)
    return query_id


async def asked_of(loads: Tail, stage: Stage, queries: int) -> tuple[int, int, int]:
    """Return queries, inputs and refused queries of the task, once the load reports contain `queries` queries."""
    total = [0, 0, 0]
    async with asyncio.timeout(WAIT_S):
        while total[0] < queries:
            for record in await loads.poll():
                said = msgspec.json.decode(record.value or b"", type=SelectorLoad)
                for count in said.classes:
                    if count.load_class.task == stage.task:
                        added = (count.queries, count.inputs, count.refused)
                        total = [one + more for one, more in zip(total, added, strict=True)]
    return total[0], total[1], total[2]


@pytest.mark.parametrize("offline", [False, True])
async def test_batch_claim_beyond_record_size_is_refused(stage: Stage, offline: bool) -> None:
    topic = offline_topic(stage.task) if offline else task_topic(stage.task)
    async with (
        Tail(stage.kafka, "loads", [LOAD]) as loads,
        selecting(stage),
        AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer,
    ):
        liars = {await send(producer, topic, ONE, batch=str(MAX_BATCH), reply_to=stage.replies) for _ in range(10)}
        replies = await stage.wait(stage.replies, len(liars))
        assert {fields(reply)[h.ID] for reply in replies} == liars
        assert {fields(reply)[h.STATUS] for reply in replies} == {"invalid_request"}
        assert all(b"infaas-batch" in (reply.value or b"") for reply in replies)
        honest = {
            await send(producer, task_topic(stage.task), ONE, latency_ms="60000", reply_to=stage.replies)
            for _ in range(20)
        }
        forwarded = await stage.wait(variant_topic(stage.cheap), len(honest))
        assert {fields(record)[h.ID] for record in forwarded} == honest
        assert await asked_of(loads, stage, 20) == (20, 20, 0)


async def test_batch_claim_that_record_can_hold_is_forwarded(stage: Stage) -> None:
    value = ONE.replace(b"[1,4]", b"[3,4]").replace(b"[1,2,3,4]", b"[1,2,3,4,1,2,3,4,1,2,3,4]")
    async with selecting(stage), AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer:
        asked = await send(producer, task_topic(stage.task), value, batch="3", latency_ms="60000")
        (forwarded,) = await stage.wait(variant_topic(stage.cheap))
        assert (fields(forwarded)[h.ID], fields(forwarded)[h.BATCH]) == (asked, "3")


async def test_batch_claim_in_a_tenants_ingress_is_refused(stage: Stage) -> None:
    name = f"acme{uuid4().hex[:8]}"
    await create_tenant(stage.pool, stage.kafka, Tenant(name=name, partitions=2))
    answers = tenant_results_topic(name)
    async with (
        Tail(stage.kafka, "answers", [answers]) as tail,
        selecting(stage),
        AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer,
    ):
        topics = ingress_topic(name), offline_of(ingress_topic(name))
        liars = {await send(producer, topic, ONE, task=stage.task, batch=str(MAX_BATCH)) for topic in topics}
        found: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            while found.keys() != liars:
                found |= {fields(record)[h.ID]: fields(record)[h.STATUS] for record in await tail.poll()}
        assert set(found.values()) == {"invalid_request"}


@pytest.mark.parametrize("proof", ["", "AAAA", "A" * 43])
async def test_rejected_upstream_claim_of_a_client_is_ignored(stage: Stage, proof: str) -> None:
    claims = {"rejected_upstream": str(MAX_REJECTED_UPSTREAM), "latency_ms": "60000", "sent_ns": "1"}
    if proof:
        claims["x_rejected_upstream_proof"] = proof
    async with (
        Tail(stage.kafka, "loads", [LOAD]) as loads,
        selecting(stage),
        AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer,
    ):
        asked = {await send(producer, task_topic(stage.task), ONE, **claims) for _ in range(3)}
        forwarded = await stage.wait(variant_topic(stage.cheap), len(asked))
        assert {fields(record)[h.ID] for record in forwarded} == asked
        assert not any(h.REJECTED_UPSTREAM in fields(record) for record in forwarded)
        assert await asked_of(loads, stage, 3) == (3, 3, 0)


async def test_turned_away_count_of_a_gateway_counts_once(stage: Stage) -> None:
    """A proved count is counted; a copy of its record, which another client may have read, is a query of its own."""
    secret = await read_system_secret(stage.pool)
    query_id, sent_ns = uuid4().hex, str(time.time_ns())
    headers = [
        (h.ID, query_id.encode()),
        (h.LATENCY_MS, b"60000"),
        (h.SENT_NS, sent_ns.encode()),
        (h.REJECTED_UPSTREAM, b"7"),
        (h.REJECTED_UPSTREAM_PROOF, rejected_upstream_proof(secret, stage.task, query_id, sent_ns, "7").encode()),
    ]
    async with (
        Tail(stage.kafka, "loads", [LOAD]) as loads,
        selecting(stage),
        AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer,
    ):
        for _ in range(3):
            await producer.send_and_wait(task_topic(stage.task), ONE, headers=headers, partition=0)
        headers[0] = (h.ID, b"another")
        await producer.send_and_wait(task_topic(stage.task), ONE, headers=headers, partition=0)
        assert await asked_of(loads, stage, 11) == (11, 11, 7)
