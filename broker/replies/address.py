"""Address of a receiver in the query's header `infaas-reply-stream`, `host:port token fingerprint`, and TLS.

The host is an IP address, since a sender must not look up names on behalf of an unknown author. Without a fingerprint
the results are not encrypted.

A receiver makes its own certificate, and senders recognise it by its fingerprint. They get the header of a query over a
Kafka that is encrypted and authenticates its clients. So no certificate authority is needed: a sender accepts only the
certificate that was named.
"""

import asyncio
import base64
import hashlib
import ssl
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple

from broker.kafka.settings import ReplyStreamSettings

MAX_LENGTH: Final = 200
"""Largest number of characters of a header that is read."""
MIN_TOKEN: Final = 16
FINGERPRINT_LENGTH: Final = 43
"""Characters of a SHA-256 in base64url without padding."""
_LASTS: Final = timedelta(days=3650)
"""Validity of a certificate. It is used only while its process runs, and its dates are not checked."""


class StreamAddress(NamedTuple):
    """Address of a receiver, and its reply token: the secret that authenticates its senders."""

    host: str
    port: int
    token: str
    fingerprint: str = ""
    """Fingerprint of its certificate; empty if it does not use TLS."""

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"

    def header(self) -> str:
        """Return the address as text of the header."""
        place = f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        return f"{place} {self.token} {self.fingerprint}".rstrip()

    def is_within(self, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
        """Return true if the host belongs to one of the networks."""
        host = ip_address(self.host)
        return any(host in network for network in networks)

    def may_receive(self, settings: ReplyStreamSettings, kafka_encrypted: bool) -> bool:
        """Return true if a sender may send results here as they would be sent: by TLS if there is a fingerprint.

        `kafka_encrypted`: Kafka is reached by TLS.
        """
        return bool(self.fingerprint) or not settings.encrypts_results(kafka_encrypted, self.host)


def parse_address(text: str) -> StreamAddress | None:
    """Parse the text of a header; None if it is no address, or if its token is too short."""
    place, _space, secret = text.partition(" ")
    token, space, fingerprint = secret.partition(" ")
    host, colon, port = place.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5
    if not (colon and is_port and len(text) <= MAX_LENGTH and len(token) >= MIN_TOKEN) or "%" in host:
        return None
    if space and len(fingerprint) != FINGERPRINT_LENGTH:
        return None
    try:
        known = ip_address(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host)
    except ValueError:
        return None
    return StreamAddress(str(known), int(port), token, fingerprint) if 0 < int(port) < 65_536 else None


class ReceiverTls(NamedTuple):
    """TLS of one receiver, and the fingerprint of its certificate."""

    context: ssl.SSLContext
    fingerprint: str


def new_receiver_tls() -> ReceiverTls:
    """Make a key and a certificate for the lifetime of the process.

    Raises:
        ImportError: `cryptography` is not installed.
        OSError: there is no folder for the temporary file from which OpenSSL reads the key.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "infaas reply stream")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LASTS)
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # each connection is a session of its own, so none is resumed
    with tempfile.NamedTemporaryFile() as file:  # readable only by its user
        file.write(key.private_bytes(serialization.Encoding.PEM, *form))
        file.write(made.public_bytes(serialization.Encoding.PEM))
        file.flush()
        context.load_cert_chain(file.name)
    return ReceiverTls(context, fingerprint_of(made.public_bytes(serialization.Encoding.DER)))


def new_sender_context() -> ssl.SSLContext:
    """Return the TLS context of a sender. It accepts any certificate; the sender then checks `shown_fingerprint`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of(certificate: bytes) -> str:
    """Return the fingerprint of a certificate in DER."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).decode().rstrip("=")


def shown_fingerprint(transport: asyncio.BaseTransport) -> str:
    """Return the fingerprint of the peer's certificate; empty if it has none."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    shown = None if connection is None else connection.getpeercert(binary_form=True)
    return "" if shown is None else fingerprint_of(shown)
