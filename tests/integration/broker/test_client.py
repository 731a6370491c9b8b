"""TLS and SASL against a real broker that insists on both."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from broker.client import close_client, new_client, open_admin, ping
from broker.delivery.consumer import Consumer
from broker.producer import Producer
from broker.servers.apache import ApacheKafka, server_properties
from broker.settings import KafkaSettings, SaslMechanism, SecurityProtocol
from broker.topics import TopicSpec, ensure_topics
from process.ports import free_port
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache, served
from tests.waiting import PATIENCE_S, until

USER, PASSWORD = "me", "hunter2"


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate of 127.0.0.1 that vouches for itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate: install it")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    who = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            *who,
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return key, certificate


def one_line(pem: Path) -> str:
    return pem.read_text().strip().replace("\n", "\\n")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Generator[KafkaSettings]:
    folder = tmp_path_factory.mktemp("secured-kafka")
    need_apache()
    key, certificate = make_certificate(folder)
    secure_port = free_port()

    def properties(data: Path, port: int, controller_port: int) -> str:
        plain = server_properties(data, port, controller_port)
        added = {
            "listeners": f"SECURE://127.0.0.1:{secure_port},PLAINTEXT://127.0.0.1:{port},"
            f"CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"SECURE://127.0.0.1:{secure_port},PLAINTEXT://127.0.0.1:{port}",
            "listener.security.protocol.map": "SECURE:SASL_SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.secure.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule "
            f'required user_{USER}="{PASSWORD}";',
            "ssl.keystore.type": "PEM",
            "ssl.keystore.key": one_line(key),
            "ssl.keystore.certificate.chain": one_line(certificate),
        }
        return plain + "".join(f"{name}={value}\n" for name, value in added.items())

    with served(lambda: ApacheKafka(folder, 0, properties)):
        yield KafkaSettings(
            bootstrap=f"127.0.0.1:{secure_port}",
            security_protocol=SecurityProtocol.SASL_SSL,
            sasl_username=USER,
            sasl_password=SecretStr(PASSWORD),
            tls_ca=certificate,
            request_timeout_ms=5000,
        )


@pytest.fixture(autouse=True)
async def _all_closed(secured: KafkaSettings) -> AsyncGenerator[None]:
    """The loop must outlive the goodbyes of TLS, which aiokafka does not wait for where it was refused."""
    yield
    port = int(secured.bootstrap.rpartition(":")[2])
    await until(lambda: not any(c.raddr and c.raddr.port == port for c in psutil.Process().net_connections("tcp")))


async def test_every_client_gets_in_with_the_right_credentials(secured: KafkaSettings) -> None:
    await ensure_topics(secured, [TopicSpec("secret")])
    async with Producer(secured, "test") as producer, Consumer(secured, "test", group="secret") as consumer:
        await producer.send_and_wait("secret", b"x")
        await consumer.assign("secret", [0])
        async with asyncio.timeout(PATIENCE_S):
            assert (await consumer.poll())[0].value == b"x"


async def test_a_wrong_password_is_said_without_showing_it(secured: KafkaSettings) -> None:
    wrong = secured.model_copy(update={"sasl_password": SecretStr("letmein")})
    with pytest.raises(OperatorError, match=r"refused the credentials.*INFAAS_KAFKA_SASL_PASSWORD") as caught:
        await ping(wrong)
    assert "letmein" not in str(caught.value)


async def test_a_mechanism_the_broker_does_not_take_is_said(secured: KafkaSettings) -> None:
    other = secured.model_copy(update={"sasl_mechanism": SaslMechanism.SCRAM_SHA_256})
    with pytest.raises(OperatorError, match=r"refused the credentials.*SASL_MECHANISM \(SCRAM-SHA-256\)"):
        await ping(other)


async def test_credentials_are_not_blamed_when_nobody_answers(secured: KafkaSettings) -> None:
    away = secured.model_copy(update={"bootstrap": f"127.0.0.1:{free_port()}"})
    with pytest.raises(OperatorError, match="cannot reach Kafka"):
        await ping(away)


async def test_a_certificate_nobody_trusts_is_refused(secured: KafkaSettings) -> None:
    with pytest.raises(OperatorError, match="cannot reach Kafka"):
        await ping(secured.model_copy(update={"tls_ca": None}))


async def test_a_topic_that_we_ask_about_is_not_made_while_others_here_may_have_theirs_made(
    embedded_kafka: KafkaSettings,
) -> None:
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
