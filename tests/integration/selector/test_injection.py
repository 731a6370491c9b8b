"""Tests of answers that a client directs to another client's topic, by aiokafka, with and without a signature."""

import asyncio
import time

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from broker.fetch.tail import Tail
from broker.producing.producer import Producer
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from process.security.signature import SigningKey, sign
from schemas import headers as h
from schemas.query import parse_query
from schemas.result import OK, Result, error_message
from schemas.topics import JOB_RESULTS, task_topic, tenant_reply_topic, tenant_results_topic, variant_topic
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.integration.selector.test_ingress import a_signing_tenant
from tests.waiting import until

ORDER = "order-1001"


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": reason}) or 0.0


async def send(stage: Stage, asked: dict[str, str], key: SigningKey | None = None) -> None:
    """Send a query by aiokafka; selectors refuse it, because no variant has the requested accuracy."""
    asked = {h.MIN_ACCURACY: "0.99"} | asked
    if key is not None:
        asked[h.SIGNATURE] = sign(key, stage.task, asked, b"{}", int(time.time() * 1e3))
    async with AIOKafkaProducer(bootstrap_servers=stage.kafka.bootstrap) as producer:
        headers = [(name, text.encode()) for name, text in asked.items()]
        await producer.send_and_wait(task_topic(stage.task), b"{}", headers=headers)


def ask(stage: Stage, gateway: QueryClient) -> asyncio.Task[Result]:
    """Send a query through the gateway's Kafka client, as for an HTTP client."""
    said = {h.ID: ORDER, h.REPLY_TO: gateway.reply_topic}
    query = parse_query(stage.task, said, gateway.clock.now_ms())
    headers = [(name, text.encode()) for name, text in said.items()]
    return asyncio.create_task(gateway.ask(Envelope(task_topic(stage.task), b"{}", headers, query)))


async def answer(stage: Stage, client: Producer) -> None:
    """Answer the forwarded query as a worker does."""
    (record,) = await stage.wait(variant_topic(stage.cheap))
    asked = fields(record)
    returned = [(name, asked[name].encode()) for name in h.RETURNED if name in asked]
    await client.send_and_wait(
        asked[h.REPLY_TO], b"its own", headers=[(h.ID, asked[h.ID].encode()), (h.STATUS, OK.encode()), *returned]
    )


@pytest.mark.parametrize("correlation", [{}, {h.CORRELATION: "guessed-1"}])
async def test_unsigned_answer_reaches_no_waiter_of_a_gateway(
    stage: Stage, client: Producer, correlation: dict[str, str]
) -> None:
    before = dropped("uncorrelated") + dropped("unknown")
    async with selecting(stage), QueryClient(GatewaySettings(), stage.kafka) as gateway, asyncio.timeout(WAIT_S):
        waiting = ask(stage, gateway)
        await until(lambda: gateway.in_flight == 1)
        await send(stage, {h.ID: ORDER, h.REPLY_TO: gateway.reply_topic} | correlation)
        await until(lambda: waiting.done() or dropped("uncorrelated") + dropped("unknown") > before)
        await answer(stage, client)
        assert (await waiting).value == b"its own"
    assert dropped("uncorrelated") + dropped("unknown") == before + 1


@pytest.mark.parametrize("aimed_at", ["gateway", "jobs", "client", "tenant", "outside"])
async def test_signed_query_is_answered_in_its_tenants_topics_only(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch, aimed_at: str
) -> None:
    tenant, key = await a_signing_tenant(stage, monkeypatch)
    async with (
        Tail(stage.kafka, "tenant", [tenant_results_topic(tenant)]) as results,
        selecting(stage),
        QueryClient(GatewaySettings(), stage.kafka) as gateway,
        asyncio.timeout(WAIT_S),
    ):
        waiting = ask(stage, gateway)
        await until(lambda: gateway.in_flight == 1)
        topic = {
            "gateway": gateway.reply_topic,
            "jobs": JOB_RESULTS,
            "client": "infaas.replies.client-1",
            "tenant": tenant_results_topic("globex"),
            "outside": stage.replies,
        }[aimed_at]
        await send(stage, {h.ID: ORDER, h.REPLY_TO: topic}, key)
        told = await results.poll()
        while not told:
            told = await results.poll()
        assert [(fields(record)[h.ID], fields(record)[h.STATUS]) for record in told] == [(ORDER, "forbidden")]
        assert f"begin with infaas.tenants.{tenant}." in error_message(told[0].value or b"")
        await answer(stage, client)
        assert (await waiting).value == b"its own"
    assert stage.replies not in stage.heard


async def test_signed_query_without_reply_topic_answers_to_tenant(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, key = await a_signing_tenant(stage, monkeypatch)
    topics = [tenant_results_topic(tenant), tenant_reply_topic(tenant, "aiokafka")]
    async with selecting(stage), asyncio.timeout(WAIT_S):
        for named in ({}, {h.REPLY_TO: topics[1]}):
            await send(stage, {h.ID: ORDER, h.MIN_ACCURACY: "0.5", **named}, key)
            (record,) = await stage.wait(variant_topic(stage.cheap))
            assert fields(record)[h.REPLY_TO] == topics[bool(named)]


@pytest.mark.parametrize("signed", [False, True])
async def test_client_cannot_have_its_answer_copied(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, signed: bool
) -> None:
    """A copied answer goes to `infaas.shadows`, where versions are compared."""
    _tenant, key = await a_signing_tenant(stage, monkeypatch)
    async with selecting(stage), asyncio.timeout(WAIT_S):
        await send(stage, {h.ID: ORDER, h.MIN_ACCURACY: "0.5", h.COPIED: "true"}, key if signed else None)
        (record,) = await stage.wait(variant_topic(stage.cheap))
    assert h.COPIED not in fields(record)
