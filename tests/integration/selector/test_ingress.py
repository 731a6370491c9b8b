"""Tests of tenants' ingress topics, at a real selector with a real broker and database."""

import asyncio
import time
from collections import Counter
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from broker.dead_letters.dead_letters import DeadLetters
from broker.dead_letters.letter import publish_dead_letter
from broker.dead_letters.stored_letter import LetterFilter, StoredLetter
from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.access import set_password
from broker.kafka.topics import partitions_of
from broker.producing.producer import Producer
from gateway.query_client import QueryClient
from gateway.settings import GatewaySettings
from gateway.translation import Envelope
from infaas.client import InfaasClient
from process.security.signature import SigningKey, sign, system_key, tenant_key
from registry.tenants import create_tenant, remove_tenant
from registry.topics import grow_tenant_topics
from schemas import headers as h
from schemas.errors import Forbidden, OperatorError, UnknownTask, Unsatisfiable
from schemas.query import parse_query
from schemas.result import error_message
from schemas.rows.tenants import Tenant
from schemas.status import InstanceStatus, PartitionStatus
from schemas.topics import (
    DEAD_LETTERS,
    ingress_topic,
    offline_of,
    offline_variant_topic,
    task_topic,
    tenant_prefix,
    tenant_results_topic,
    variant_topic,
)
from selector.dispatch.dispatcher import KEEP_BYTES, MOST_AT_ONCE
from store.pool import Pool
from store.tenants import list_tenants, renew_key
from tests.integration.selector.stage import WAIT_S, Stage, fields, selecting
from tests.load import Pace
from tests.model_files import Quiet
from tests.secured_kafka import SecuredKafka
from tests.unit.selector.story import instance
from tests.waiting import read_until, until

SECRET = "0123456789abcdef" * 2


async def a_tenant(stage: Stage) -> str:
    name = f"acme{uuid4().hex[:8]}"
    await create_tenant(stage.pool, stage.kafka, Tenant(name=name, partitions=2))
    return name


async def a_signing_tenant(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> tuple[str, SigningKey]:
    """Set the signing secret of this process and create a tenant; return its name and key."""
    monkeypatch.setenv("INFAAS_SIGNING_SECRET", SECRET)
    tenant = await a_tenant(stage)
    return tenant, tenant_key(SECRET.encode(), tenant, await renew_key(stage.pool, tenant) or 0)


async def ask(
    producer: Producer, whose: str, task: str, /, *, offline: bool = False, partition: int | None = None, **needs: str
) -> str:
    query_id, topic = uuid4().hex, ingress_topic(whose)
    headers = [(h.ID, query_id.encode()), (h.TASK, task.encode())]
    headers += [("infaas-" + name.replace("_", "-"), text.encode()) for name, text in needs.items()]
    await producer.send_and_wait(
        offline_of(topic) if offline else topic, b"{}", key=query_id.encode(), headers=headers, partition=partition
    )
    return query_id


async def test_ingress_query_belongs_to_topics_tenant(stage: Stage, client: Producer) -> None:
    tenant = await a_tenant(stage)
    async with selecting(stage):
        query_id = await ask(client, tenant, stage.task, tenant="globex", copied="true", variant="forged")
        (record,) = await stage.wait(variant_topic(stage.cheap))
        got = fields(record)
        assert (got[h.ID], got[h.TENANT], got[h.TASK], got[h.VARIANT]) == (query_id, tenant, stage.task, stage.cheap)
        assert got[h.REPLY_TO] == tenant_results_topic(tenant)
        assert h.COPIED not in got
        waits = await ask(client, tenant, stage.task, offline=True)
        marked = await ask(client, tenant, stage.task, mode="offline")
        records = await stage.wait(offline_variant_topic(stage.cheap), 2)
        assert {fields(record)[h.ID] for record in records} == {waits, marked}
        assert {fields(record)[h.TENANT] for record in records} == {tenant}


async def test_ingress_errors_go_to_tenants_results_topic(stage: Stage, client: Producer) -> None:
    tenant = await a_tenant(stage)
    async with Tail(stage.kafka, "acme", [tenant_results_topic(tenant)]) as results, selecting(stage):
        asked = {
            await ask(client, tenant, stage.task, reply_to=stage.replies): "forbidden",
            await ask(client, tenant, "invented", tenant="globex"): "unknown_task",
            await ask(client, tenant, "no.task"): "invalid_request",
            await ask(client, tenant, stage.task, min_accuracy="0.99"): "unsatisfiable",
        }
        told = dict[str, str]()
        async with asyncio.timeout(WAIT_S):
            while len(told) < len(asked):
                for record in await results.poll():
                    told[fields(record)[h.ID]] = fields(record)[h.STATUS]
                    assert error_message(record.value or b"")
        assert told == asked
        assert stage.replies not in stage.heard


async def test_selectors_share_added_ingress_partitions(stage: Stage, client: Producer) -> None:
    tenant = await a_tenant(stage)
    async with (
        selecting(stage, instance_id=f"a-{tenant}") as first,
        selecting(stage, instance_id=f"b-{tenant}") as second,
    ):
        await grow_tenant_topics(stage.pool, stage.kafka, tenant, 4)
        topic = ingress_topic(tenant)
        both = [one._consumer for one in (first, second)]  # pyright: ignore[reportPrivateUsage]
        await until(lambda: [sum(p.topic == topic for p in one.reading) for one in both] == [2, 2])
        asked = [await ask(client, tenant, stage.task, partition=number % 4) for number in range(12)]
        records = await stage.wait(variant_topic(stage.cheap), 12)
    assert sorted(fields(record)[h.ID] for record in records) == sorted(asked)


async def test_replay_of_ingress_letter_keeps_tenant(stage: Stage, client: Producer) -> None:
    tenant = await a_tenant(stage)
    query_id = uuid4().hex
    given_up = [  # as a worker dead-letters a query that was forwarded to it
        (h.ID, query_id.encode()), (h.TASK, stage.task.encode()), (h.TENANT, tenant.encode()),
        (h.REPLY_TO, tenant_results_topic(tenant).encode()),
        ("infaas-dead-topic", variant_topic(stage.cheap).encode()), ("infaas-dead-partition", b"0"),
        ("infaas-dead-offset", b"7"), ("infaas-dead-reason", b"crashed"),
        ("infaas-attempts", b"3"),
    ]  # fmt: skip
    await client.send_and_wait(DEAD_LETTERS, b"{}", headers=given_up)
    async with selecting(stage):
        box = DeadLetters(stage.kafka)
        report = await box.replay(await box.find(LetterFilter(task=stage.task)))
        assert (report.replayed, report.passed_over) == (1, {})
        (record,) = await stage.wait(variant_topic(stage.cheap))
    assert (fields(record)[h.ID], fields(record)[h.TENANT]) == (query_id, tenant)


async def test_replay_accepts_signed_letters_and_skips_forged(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway signs the query and receives the answer in its own reply topic."""
    tenant, _key = await a_signing_tenant(stage, monkeypatch)
    key, box = system_key(SECRET.encode()), DeadLetters(stage.kafka, SECRET.encode())

    async def buried(count: int) -> list[StoredLetter]:
        return await read_until(lambda: box.find(LetterFilter(task=stage.task)), lambda found: len(found) == count)

    async def sign_and_ask(**changed: str) -> str:
        named = {h.ID: uuid4().hex, h.REPLY_TO: stage.replies, h.TENANT: tenant}
        named[h.SIGNATURE] = sign(key, stage.task, named, b"{}", int(time.time() * 1e3))
        headers = [(name, text.encode()) for name, text in (named | changed).items()]
        await client.send_and_wait(task_topic(stage.task), b"{}", headers=headers)
        return named[h.ID]

    async with selecting(stage, tenant_headers="refused"):
        query_id = await sign_and_ask()
        (record,) = await stage.wait(variant_topic(stage.cheap))
        await (await publish_dead_letter(client, record, "the worker died"))
        await sign_and_ask(**{h.ID: "forged"})
        letters = await buried(2)
        without = await DeadLetters(stage.kafka).replay(letters)
        assert without.replayed == 0
        assert any("INFAAS_SIGNING_SECRET_FILE" in why for why in without.passed_over.values())
        report = await box.replay(letters)
        assert (report.replayed, len(report.passed_over)) == (1, 1)
        assert "signature was not verified" in next(iter(report.passed_over.values()))
        (record,) = await stage.wait(variant_topic(stage.cheap))
    assert (fields(record)[h.ID], fields(record)[h.TENANT]) == (query_id, tenant)


async def test_forged_queries_are_refused_and_sampled(stage: Stage, client: Producer) -> None:
    many, task = 2 * MOST_AT_ONCE, stage.task

    async def forge(number: int, reply_to: str) -> None:
        headers = [(h.ID, b"%d" % number), (h.TENANT, b"globex"), (h.REPLY_TO, reply_to.encode())]
        await client.send_and_wait(task_topic(task), b"x" * 9000, headers=headers)

    async with selecting(stage, tenant_headers="refused"):
        await asyncio.gather(*(forge(number, stage.replies) for number in range(many)))
        answers = await stage.wait(stage.replies, many)
        await asyncio.gather(*(forge(number, "infaas.results.gone") for number in range(many)))
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))
    assert {fields(answer)[h.STATUS] for answer in answers} == {"forbidden"}
    letters = await DeadLetters(stage.kafka).find(LetterFilter(task=task))
    assert MOST_AT_ONCE <= len(letters) < MOST_AT_ONCE + 20, "the first, and one each some seconds"
    assert all(stored.value_bytes <= KEEP_BYTES for stored in letters)


async def test_remove_tenant_answers_its_queries_first(stage: Stage, client: Producer) -> None:
    tenant = await a_tenant(stage)
    asked = [await ask(client, tenant, stage.task) for _ in range(5)]

    async def removed(wait_s: float) -> None:
        await remove_tenant(
            stage.pool, stage.kafka, tenant, Quiet(), drain_timeout_s=wait_s, results_grace_s=0.0
        )  # fmt: skip

    failed: OperatorError | None = None
    try:
        await removed(0.5)
    except OperatorError as error:
        failed = error
    assert "does a selector run?" in str(failed)
    async with selecting(stage):
        await removed(WAIT_S)
        records = await stage.wait(variant_topic(stage.cheap), 5)
        assert sorted(fields(record)[h.ID] for record in records) == sorted(asked)
        assert tenant not in [row.name for row in await list_tenants(stage.pool)]
        topics = [ingress_topic(tenant), tenant_prefix(tenant) + "results"]
        assert not await partitions_of(stage.kafka, topics)
        await stage.ask(client)
        await stage.wait(variant_topic(stage.cheap))


async def test_forged_tenant_gains_no_share_under_overload(stage: Stage, client: Producer) -> None:
    greedy, modest = await a_tenant(stage), await a_tenant(stage)
    worker = SlowWorker(stage)
    stage.said = worker.said(0)
    asked = {greedy: list[str](), modest: list[str]()}
    refused = dict[str, str]()
    both = [tenant_results_topic(greedy), tenant_results_topic(modest)]

    async def hear(results: Tail) -> None:
        async for record in results:
            refused[fields(record)[h.ID]] = fields(record)[h.STATUS]

    async with Tail(stage.kafka, "both", both) as results, selecting(stage), asyncio.TaskGroup() as tasks:
        hearing = tasks.create_task(hear(results))
        async for beat in Pace(20, 60):
            stage.said = worker.said(beat)
            many = [ask(client, greedy, stage.task, tenant=modest, latency_ms="2000") for _ in range(10)]
            asked[greedy] += await asyncio.gather(*many)
            if beat % 2:
                asked[modest].append(await ask(client, modest, stage.task, latency_ms="2000"))
        await until(lambda: len(refused) + len(worker.heard()) == sum(map(len, asked.values())))
        hearing.cancel()
    forwarded = {fields(record)[h.ID]: fields(record)[h.TENANT] for record in worker.heard()}
    assert forwarded.keys().isdisjoint(refused)
    assert forwarded.keys() | refused.keys() == {*asked[greedy], *asked[modest]}
    assert set(refused.values()) == {"overloaded"}
    assert all(forwarded.get(query_id) in (tenant, None) for tenant, ids in asked.items() for query_id in ids)
    given = {tenant: sum(query_id in forwarded for query_id in ids) / len(ids) for tenant, ids in asked.items()}
    # with one share for both, each would get the same fraction of its queries
    assert given[modest] > 1.5 * given[greedy]


class SlowWorker:
    """A worker that answers two queries a beat, hence forty a second, or fewer on a slow machine."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def heard(self) -> list[Record]:
        """Return all records forwarded to it."""
        return self._stage.heard.get(variant_topic(self._stage.cheap), [])

    def said(self, beat: int) -> list[InstanceStatus]:
        """Return its status after `beat` beats; each beat answers one query of each partition."""
        ends = Counter(record.partition for record in self.heard())
        partitions = tuple(PartitionStatus(p, min(beat, ends[p]), ends[p]) for p in (0, 1))
        return [msgspec.structs.replace(instance(self._stage.cheap, slowdown=73.0), partitions=partitions)]


async def test_signature_proves_tenant_if_headers_are_refused(
    stage: Stage, client: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, key = await a_signing_tenant(stage, monkeypatch)
    large = {"x": np.zeros((20_000, 4), np.float32)}
    async with (
        selecting(stage, tenant_headers="refused"),
        InfaasClient(kafka=stage.kafka, signing_key=str(key)) as signing,
        InfaasClient(kafka=stage.kafka) as naming,
        QueryClient(GatewaySettings(auth=True), stage.kafka) as gateway,
        QueryClient(GatewaySettings(), stage.kafka) as open_gateway,
    ):
        for inputs in ({"x": np.zeros((1, 4), np.float32)}, large):
            with pytest.raises(Unsatisfiable):
                await signing.infer(stage.task, inputs, min_accuracy=0.99)
        with pytest.raises(Forbidden, match="names a tenant without proof"):
            await naming.infer(stage.task, large, tenant=tenant, min_accuracy=0.99)
        fields = {h.ID: "1", h.TENANT: tenant, h.MIN_ACCURACY: "0.99", h.REPLY_TO: gateway.reply_topic}
        asked = parse_query(stage.task, fields, gateway.clock.now_ms())
        headers = [(name, text.encode()) for name, text in fields.items()]
        result = await gateway.ask(Envelope(task_topic(stage.task), b"{}", headers, asked))
        assert result.status == "unsatisfiable"
        fields[h.REPLY_TO] = open_gateway.reply_topic
        headers = [(name, text.encode()) for name, text in fields.items()]
        result = await open_gateway.ask(Envelope(task_topic(stage.task), b"{}", headers, asked))
        assert result.status == "forbidden"  # this gateway signs no tenant
        present = await renew_key(stage.pool, tenant)
        assert key.name == f"{tenant}.{present}"
        renewed = await renew_key(stage.pool, tenant, replaces=present)
        assert renewed != present
        assert await renew_key(stage.pool, tenant, replaces=present) == renewed, "sent twice, it is renewed once"

        async def void() -> bool:
            with pytest.raises((Forbidden, Unsatisfiable)) as told:
                await signing.infer(stage.task, large, min_accuracy=0.99)
            return told.type is Forbidden

        await until(void)


async def test_tenants_kafka_user_reaches_only_its_topics(
    secured_kafka: SecuredKafka, store_pool: Pool, database: str
) -> None:
    where, tenant, inputs = Stage(secured_kafka.system, store_pool, database), uuid4().hex, {"x": np.zeros((1, 4))}
    await where.prepare()
    for nobodys in ("*", where.kafka.sasl_username or ""):
        with pytest.raises(OperatorError, match="cannot belong to a tenant"):
            await create_tenant(store_pool, where.kafka, Tenant(name=tenant, kafka_user=nobodys))
    for name in (f"former-{tenant}", tenant):
        await create_tenant(store_pool, where.kafka, Tenant(name=tenant, kafka_user=name, partitions=1), "s3cret")
    former, user = (secured_kafka.user(name, "s3cret") for name in (f"former-{tenant}", tenant))
    with pytest.raises(OperatorError, match="refused the credentials"):
        async with InfaasClient(kafka=former, tenant=tenant):
            pass
    await set_password(where.kafka, f"former-{tenant}", "s3cret")
    for stranger, why in (
        (InfaasClient(kafka=former, tenant=tenant), rf"has tenant {tenant} been created .*, for this user\?"),
        (InfaasClient(kafka=former), "send queries as a tenant, with tenant="),
    ):
        with pytest.raises(OperatorError, match=why):
            async with stranger:
                pass
    async with selecting(where), InfaasClient(kafka=user, tenant=tenant) as client:
        for mode in ("online", "offline"):
            with pytest.raises(Unsatisfiable):
                await client.infer(where.task, inputs, min_accuracy=0.99, mode=mode)
        with pytest.raises(UnknownTask):
            await client.infer("invented", inputs)
    beside = f"beside-{tenant}"
    await create_tenant(store_pool, where.kafka, Tenant(name=beside, kafka_user=tenant, partitions=1))
    async with InfaasClient(kafka=user, tenant=tenant):
        await remove_tenant(store_pool, where.kafka, tenant, Quiet(), drain_timeout_s=WAIT_S, results_grace_s=0.0)
    async with InfaasClient(kafka=user, tenant=beside):
        pass
    with pytest.raises(OperatorError):
        async with InfaasClient(kafka=user, tenant=tenant):
            pass
