"""Tests of Kafka clients on a real broker that requires TLS, SASL and ACLs."""

# pyright: reportPrivateImportUsage=false
# confluent-kafka documents these names in its admin module, and its types do not mark them as exported.

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiokafka.client
import psutil
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.conn import AIOKafkaConnection, create_conn
from pydantic import SecretStr

from broker.delivery.consumer import Consumer
from broker.kafka.access import (
    Acl,
    AclOperation,
    ResourcePatternType,
    ResourceType,
    allow,
    disallow,
    forget_password,
    set_password,
    tenant_acls,
)
from broker.kafka.client import close_client, connect_client, new_client, open_admin
from broker.kafka.cluster import ping
from broker.kafka.settings import KafkaSettings, SaslMechanism
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.kafka.types import NotAllowed
from broker.producing.producer import Producer
from broker.replies.request_reply import RequestReply
from process.sockets import free_port
from schemas.errors import OperatorError
from schemas.topics import tenant_prefix, tenant_reply_topic
from tests.secured_kafka import SecuredKafka
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def secured(secured_kafka: SecuredKafka) -> KafkaSettings:
    return secured_kafka.system


@pytest.fixture(autouse=True)
async def _all_closed(secured: KafkaSettings) -> AsyncGenerator[None]:
    """Wait until all connections are closed: aiokafka does not wait for the TLS shutdown of refused ones."""
    port = int(secured.bootstrap.rpartition(":")[2])

    def connections() -> set[object]:
        return {c.laddr for c in psutil.Process().net_connections("tcp") if c.raddr and c.raddr.port == port}

    others = connections()  # of earlier tests, whose clients may still close
    yield
    await until(lambda: connections() <= others)


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-512", "OAUTHBEARER", "certificate"])
async def test_clients_authenticate_with_each_mechanism_and_acls(
    secured_kafka: SecuredKafka, way: str, tmp_path: Path
) -> None:
    system, name = secured_kafka.system, f"{way.lower()}-{uuid4().hex[:8]}"
    own = tenant_prefix(name) + "own"
    user = await way_in(secured_kafka, way, name, tmp_path)
    if way != "PLAIN":  # that user is a superuser
        await allow(system, tenant_acls(name), f"User:CN={name}" if way == "certificate" else f"User:{name}")
    for _ in range(2):  # the second call reads the configuration, by librdkafka
        await ensure_topics(user, [TopicSpec(own)])
    async with Producer(user, "test") as producer, Consumer(user, "test", group=own) as consumer:
        await producer.send_and_wait(own, b"x")
        await consumer.subscribe([own])
        async with asyncio.timeout(PATIENCE_S):
            (record,) = await consumer.poll()
        assert record.value == b"x"
        consumer.done(record)
        assert await consumer.commit()
    async with RequestReply(user, "test", topic=tenant_reply_topic(name, "test")) as requests:
        assert requests.reply_topic in await requests.producer.topics()


async def way_in(secured: SecuredKafka, way: str, name: str, folder: Path) -> KafkaSettings:
    """Return the settings of a client that authenticates under this name."""
    if way == "certificate":
        return secured.certified(name)
    if way == "OAUTHBEARER":
        now = int(time.time())
        claims = {"sub": name, "iat": now, "exp": now + 3600}
        parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in ({"alg": "none"}, claims)]
        token = folder / "token"
        token.write_text(".".join(part.rstrip("=") for part in parts) + ".")
        return secured.by(SaslMechanism.OAUTHBEARER, sasl_token_file=token)
    if way == "PLAIN":
        return secured.system
    await set_password(secured.system, name, "first")
    await set_password(secured.system, name, "s3cret")
    file = folder / "password"
    file.write_text("s3cret\n")
    return secured.by(SaslMechanism.SCRAM_SHA_512, sasl_username=name, sasl_password_file=file)


async def test_forget_password_and_disallow_revoke_access(secured_kafka: SecuredKafka) -> None:
    name = f"gone-{uuid4().hex[:8]}"
    user, system = secured_kafka.user(name, "s3cret"), secured_kafka.system
    await set_password(system, name, "s3cret")
    await allow(system, tenant_acls(name), f"User:{name}")
    await ensure_topics(user, [TopicSpec(tenant_prefix(name) + "own")])
    await disallow(system, tenant_acls(name), f"User:{name}")

    async def refused() -> str:
        try:
            await ensure_topics(user, [TopicSpec(tenant_prefix(name) + "another")])
        except OperatorError as error:
            return str(error)
        return ""

    assert "uthoriz" in await until(refused)
    for _ in range(2):
        await forget_password(system, name)
    with pytest.raises(OperatorError, match="refused the credentials"):
        await ping(user)


async def test_producer_raises_not_allowed_without_write_acl(secured_kafka: SecuredKafka) -> None:
    name = f"reader-{uuid4().hex[:8]}"
    seen, unseen = f"{name}-seen", f"{name}-unseen"
    await set_password(secured_kafka.system, name, "s3cret")
    await ensure_topics(secured_kafka.system, [TopicSpec(seen), TopicSpec(unseen)])
    rights = {seen: AclOperation.READ, f"{name}-own": AclOperation.WRITE}
    acls = [Acl(ResourceType.TOPIC, ResourcePatternType.LITERAL, topic, right) for topic, right in rights.items()]
    await allow(secured_kafka.system, acls, f"User:{name}")
    async with Producer(secured_kafka.user(name, "s3cret"), "test") as producer:
        for topic in (seen, unseen, unseen):
            with pytest.raises(NotAllowed):
                await producer.send_and_wait(topic, b"x")


async def test_acl_changes_without_permission_explain_refusal(secured_kafka: SecuredKafka) -> None:
    name = f"curious-{uuid4().hex[:8]}"
    await set_password(secured_kafka.system, name, "s3cret")
    user = secured_kafka.user(name, "s3cret")
    with pytest.raises(OperatorError, match="did not change its access control"):
        await allow(user, tenant_acls(name), f"User:{name}")
    with pytest.raises(OperatorError, match="did not change the credentials"):
        await set_password(user, "system", "mine")


async def test_acl_changes_without_authorizer_explain_remedy(kafka: KafkaSettings) -> None:
    for change in (allow, disallow):
        with pytest.raises(OperatorError, match=r"has no authorizer.*`infaas up --auth`.* run the command again"):
            await change(kafka, tenant_acls("acme"), "User:acme")


async def test_ping_with_wrong_password_hides_it(secured: KafkaSettings) -> None:
    wrong = secured.model_copy(update={"sasl_password": SecretStr("letmein")})
    with pytest.raises(OperatorError, match=r"refused the credentials.*INFAAS_KAFKA_SASL_PASSWORD") as caught:
        await ping(wrong)
    assert "letmein" not in str(caught.value)


async def test_ping_with_unsupported_mechanism_names_setting(secured: KafkaSettings) -> None:
    other = secured.model_copy(update={"sasl_mechanism": SaslMechanism.SCRAM_SHA_256})
    with pytest.raises(OperatorError, match=r"refused the credentials.*SASL_MECHANISM \(SCRAM-SHA-256\)"):
        await ping(other)


async def test_ping_of_closed_port_does_not_blame_credentials(secured: KafkaSettings) -> None:
    away = secured.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    with pytest.raises(OperatorError, match=r"cannot reach Kafka at .*nobody listens at"):
        await ping(away)


async def test_ping_refuses_untrusted_certificate(secured: KafkaSettings, caplog: pytest.LogCaptureFixture) -> None:
    assert await ping(secured) == 1
    with pytest.raises(OperatorError, match="cannot reach Kafka") as caught:
        await ping(secured.model_copy(update={"tls_ca": None}))
    assert "nobody listens" not in str(caught.value)
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


async def test_client_metadata_requests_create_no_topic(embedded_kafka: KafkaSettings) -> None:
    topic = f"asked-{uuid4().hex[:8]}"
    client = new_client(embedded_kafka, "asks")
    await client.bootstrap()
    try:
        await client.add_topic(topic)
        async with open_admin(embedded_kafka) as admin:
            await admin.describe_topics([topic])
        assert topic not in (await client.fetch_all_metadata()).topics()
        async with AIOKafkaProducer(bootstrap_servers=embedded_kafka.bootstrap) as theirs:
            await theirs.send_and_wait(topic, b"?")
        assert topic in (await client.fetch_all_metadata()).topics()
    finally:
        await close_client(client)


async def test_cancelled_start_closes_its_connections(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[AIOKafkaConnection] = []

    async def open_and_cancel(*address: Any, **options: Any) -> AIOKafkaConnection:
        opened.append(await create_conn(*address, **options))
        starting.cancel()
        return opened[-1]

    monkeypatch.setattr(aiokafka.client, "create_conn", open_and_cancel)
    starting = asyncio.create_task(connect_client(kafka, "test"))
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert [connection.connected() for connection in opened] == [False]
