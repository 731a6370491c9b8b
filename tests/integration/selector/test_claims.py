"""Tests of untrue claims in record headers, sent by plain aiokafka: inputs, refusals, reply topics of others."""

import asyncio
import time
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from process.security.signature import SigningKey, rejected_upstream_proof, sign
from schemas import headers as h
from schemas.load_classes import SelectorLoad
from schemas.query import MAX_BATCH, MAX_REJECTED_UPSTREAM, parse_query
from schemas.result import OK, error_message
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
from tests.integration.selector.test_ingress import a_signing_tenant, a_tenant
from tests.waiting import until

ONE = b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}'
"""A request of one input for the stage's task."""
THREE = ONE.replace(b"[1,4]", b"[3,4]").replace(b"[1,2,3,4]", b"[1,2,3,4,1,2,3,4,1,2,3,4]")
ORDER = "order-1001"


async def send(
    stage: Stage, topic: str, claims: dict[str, str], *, value: bytes = ONE, key: SigningKey | None = None
) -> str:
    """Write a query with these headers by aiokafka, signed if a key is given; return its id."""
    named = {h.ID: uuid4().hex} | claims
    if key is not None:
        named[h.SIGNATURE] = sign(key, stage.task, named, value, int(time.time() * 1e3))
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer:
        headers = [(name, text.encode()) for name, text in named.items()]
        await producer.send_and_wait(topic, value, headers=headers, partition=0)
    return named[h.ID]


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


async def test_batch_claim_beyond_record_size_is_refused(stage: Stage) -> None:
    """In each topic of queries; what the record can hold is forwarded, and alone is counted."""
    tenant, task = await a_tenant(stage), task_topic(stage.task)
    answers, ingress = tenant_results_topic(tenant), ingress_topic(tenant)
    async with (
        Tail(stage.kafka, "loads", [LOAD]) as loads,
        Tail(stage.kafka, "answers", [stage.replies, answers]) as tail,
        selecting(stage),
    ):
        lie = {h.TASK: stage.task, h.BATCH: str(MAX_BATCH)}
        liars = {await send(stage, topic, lie) for topic in (ingress, offline_of(ingress))}
        lie = {h.REPLY_TO: stage.replies, h.BATCH: str(MAX_BATCH)}
        liars |= {await send(stage, topic, lie) for topic in (task, offline_topic(stage.task))}
        told: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            while told.keys() != liars:
                for record in await tail.poll():
                    assert b"infaas-batch" in (record.value or b"")
                    told[fields(record)[h.ID]] = fields(record)[h.STATUS]
        assert set(told.values()) == {"invalid_request"}
        claims = {h.BATCH: "3", h.LATENCY_MS: "60000"}
        honest = {await send(stage, task, claims, value=THREE) for _ in range(3)}
        forwarded = [fields(record) for record in await stage.wait(variant_topic(stage.cheap), len(honest))]
        assert {asked[h.ID] for asked in forwarded} == honest
        assert {asked[h.BATCH] for asked in forwarded} == {"3"}
        assert await asked_of(loads, stage, 3) == (3, 9, 0)


async def test_count_of_refusals_is_counted_once_if_a_gateway_proves_it(stage: Stage) -> None:
    """A copy of its record, which another client may have read, is a query of its own; so is a claim without proof."""
    secret = await read_system_secret(stage.pool)
    query_id, sent_ns, topic = uuid4().hex, str(time.time_ns()), task_topic(stage.task)
    proof = rejected_upstream_proof(secret, stage.task, query_id, sent_ns, "7")
    claims = {h.LATENCY_MS: "60000", h.SENT_NS: sent_ns, h.REJECTED_UPSTREAM: "7"}
    async with Tail(stage.kafka, "loads", [LOAD]) as loads, selecting(stage):
        for number in range(4):
            own = {h.ID: query_id if number < 3 else "another", h.REJECTED_UPSTREAM_PROOF: proof}
            await send(stage, topic, claims | own)
        await send(stage, topic, claims | {h.REJECTED_UPSTREAM: str(MAX_REJECTED_UPSTREAM)})
        forwarded = await stage.wait(variant_topic(stage.cheap), 5)
        assert not any(h.REJECTED_UPSTREAM in fields(record) for record in forwarded)
        assert await asked_of(loads, stage, 12) == (12, 12, 7)


def dropped() -> float:
    """Return the number of results that reached no waiter, by the correlation of their queries."""
    reasons = ("uncorrelated", "unknown")
    name = "infaas_replies_dropped_total"
    return sum(REGISTRY.get_sample_value(name, {"reason": reason}) or 0.0 for reason in reasons)


@pytest.mark.parametrize("correlation", [None, "guessed-1"])
@pytest.mark.parametrize("signed", [False, True])
async def test_answer_aimed_at_a_gateway_reaches_no_waiter(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch, correlation: str | None, signed: bool
) -> None:
    """The query names the reply topic and the id of another one, and selectors refuse it."""
    tenant, key = await a_signing_tenant(stage, monkeypatch)
    claims = {h.ID: ORDER, h.MIN_ACCURACY: "0.99"} | ({h.CORRELATION: correlation} if correlation else {})
    before = dropped()
    async with (
        Tail(stage.kafka, "tenant", [tenant_results_topic(tenant)]) as results,
        selecting(stage),
        QueryClient(GatewaySettings(), stage.kafka) as gateway,
        asyncio.timeout(WAIT_S),
    ):
        said = {h.ID: ORDER, h.REPLY_TO: gateway.reply_topic}
        query = parse_query(stage.task, said, gateway.clock.now_ms())
        headers = [(name, text.encode()) for name, text in said.items()]
        waiting = asyncio.create_task(gateway.ask(Envelope(task_topic(stage.task), b"{}", headers, query)))
        await until(lambda: gateway.in_flight == 1)
        claims |= {h.REPLY_TO: gateway.reply_topic}
        await send(stage, task_topic(stage.task), claims, key=key if signed else None)
        if signed:  # it is answered in its tenant's topics only
            (told,) = await results.poll()
            assert (fields(told)[h.ID], fields(told)[h.STATUS]) == (ORDER, "forbidden")
            assert f"begin with infaas.tenants.{tenant}." in error_message(told.value or b"")
        else:
            await until(lambda: waiting.done() or dropped() > before)
        (record,) = await stage.wait(variant_topic(stage.cheap))
        asked = fields(record)
        returned = [(name, asked[name].encode()) for name in h.RETURNED if name in asked]
        own = [(h.ID, ORDER.encode()), (h.STATUS, OK.encode()), *returned]
        await client.send_and_wait(asked[h.REPLY_TO], b"its own", headers=own)
        assert (await waiting).value == b"its own"
    assert dropped() == before + (not signed)
