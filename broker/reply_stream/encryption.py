"""TLS of reply streams: a receiver makes its own certificate, and senders recognise it by its fingerprint.

Senders get the fingerprint in the header of a query, with address and token, over a Kafka that is encrypted and
authenticates its clients. So no certificate authority is needed: a sender accepts only the certificate that was named.
"""

import asyncio
import base64
import hashlib
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

FINGERPRINT_LENGTH: Final = 43
"""Characters of a SHA-256 in base64url without padding."""
_LASTS: Final = timedelta(days=3650)
"""Validity of a certificate. It is used only while its process runs, and its dates are not checked."""


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
