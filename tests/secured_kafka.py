"""Apache Kafka with authentication (SASL and mutual TLS) and authorization (ACLs)."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import pytest
import trustme
from cryptography import x509
from pydantic import SecretStr

from broker.kafka.servers.apache import ApacheKafka, changed_properties, server_properties
from broker.kafka.settings import KafkaSettings, SaslMechanism, SecurityProtocol
from process.sockets import free_port
from tests.certificates import authority_file, issue_named
from tests.kafka_fixtures import prepare_apache, started
from tests.servers import served, starts

USER, PASSWORD = "system", "hunter2"  # pragma: allowlist secret
"""Credentials of the super user."""
_HOST: Final = "127.0.0.1"


class Certificates:
    """Certificate authority and the certificates that it issues, as PEM files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self._folder = folder
        self._key = authority.private_key_pem.bytes()
        self.authority = authority_file(authority, folder)

    def issue(self, name: str) -> tuple[Path, Path]:
        """Issue a certificate whose subject has this common name, valid on loopback; return it and its key."""
        authority = trustme.CA.from_pem(self.authority.read_bytes(), self._key)
        return issue_named(authority, Path(mkdtemp(dir=self._folder)), name, x509.IPAddress(ip_address(_HOST)))


class SecuredKafka:
    """Client settings of the broker, for each kind of principal."""

    def __init__(self, certificates: Certificates, sasl_port: int, tls_port: int) -> None:
        self.certificates = certificates
        self._sasl, self._tls = f"{_HOST}:{sasl_port}", f"{_HOST}:{tls_port}"

    @property
    def system(self) -> KafkaSettings:
        """Settings of the super user, by PLAIN."""
        return self.user(USER, PASSWORD, SaslMechanism.PLAIN)

    def user(
        self, name: str, password: str, mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    ) -> KafkaSettings:  # fmt: skip
        """Return the settings of a user with a password."""
        return self.by(mechanism, sasl_username=name, sasl_password=SecretStr(password))

    def by(self, mechanism: SaslMechanism, **credentials: object) -> KafkaSettings:
        """Return the settings for these SASL credentials."""
        return KafkaSettings(
            bootstrap=self._sasl,
            security_protocol=SecurityProtocol.SASL_SSL,
            sasl_mechanism=mechanism,
            tls_ca=self.certificates.authority,
            request_timeout_ms=5000,
            **credentials,  # pyright: ignore[reportArgumentType]
        )

    def certified(self, name: str) -> KafkaSettings:
        """Return the settings for a new client certificate of this name."""
        certificate, key = self.certificates.issue(name)
        return KafkaSettings(
            bootstrap=self._tls,
            security_protocol=SecurityProtocol.SSL,
            tls_ca=self.certificates.authority,
            tls_certificate=certificate,
            tls_key=key,
            request_timeout_ms=5000,
        )


class _ApacheBehindLocks(ApacheKafka):
    """Apache Kafka whose listeners all require authentication."""

    def __init__(
        self, folder: Path, secured: SecuredKafka, certificates: Certificates, ports: tuple[int, int], session_ms: int
    ) -> None:
        super().__init__(folder, 0, partial(_properties, certificates, ports, session_ms))
        self._secured = secured

    @property
    def settings(self) -> KafkaSettings:
        return self._secured.system


def _properties(
    certificates: Certificates, ports: tuple[int, int], session_ms: int, data: Path, port: int, controller_port: int
) -> str:  # fmt: skip
    certificate, key = certificates.issue("broker")
    doors = f"SASL://{_HOST}:{ports[0]},TLS://{_HOST}:{ports[1]}"
    login = "org.apache.kafka.common.security"
    changed = {
        "listeners": f"{doors},CONTROLLER://{_HOST}:{controller_port}",
        "advertised.listeners": doors,
        "inter.broker.listener.name": "TLS",
        "listener.security.protocol.map": "SASL:SASL_SSL,TLS:SSL,CONTROLLER:SSL",
        "listener.name.tls.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": f"{login}.plain.PlainLoginModule required "
        f'user_{USER}="{PASSWORD}";',
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{login}.scram.ScramLoginModule required;",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": f"{login}.oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": _one_line(key),
        "ssl.keystore.certificate.chain": _one_line(certificate),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.certificates": _one_line(certificates.authority),
        "connections.max.reauth.ms": str(session_ms),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{USER};User:CN=broker",
    }
    return changed_properties(server_properties(data, port, controller_port), changed)


def _one_line(pem: Path) -> str:
    return pem.read_text().strip().replace("\n", "\\n")


@contextmanager
def secured_broker(folder: Path, session_ms: int = 0) -> Generator[SecuredKafka]:
    """Run the broker in this folder; SASL sessions expire after `session_ms` milliseconds, or never with 0."""
    prepare_apache()
    certificates, ports = Certificates(folder), (free_port(), free_port())
    secured = SecuredKafka(certificates, *ports)
    with served(lambda: _ApacheBehindLocks(folder, secured, certificates, ports, session_ms)):
        yield secured


starts["secured-kafka"] = secured_broker


@pytest.fixture(scope="session")
def secured_kafka(request: pytest.FixtureRequest) -> SecuredKafka:
    """Secured broker shared by all tests that need one; each test must use users of its own."""
    return started(request, "secured-kafka")
