"""Signatures of queries, and proofs of a gateway's counts, on topics that other clients may write to, too. Pure.

    infaas-signature: v1 <key> <milliseconds since the epoch> <HMAC-SHA-256, base64url without padding>

The signed text is UTF-8, each line ended by a newline:

    v1
    <key>
    <milliseconds>
    <name>:<value>        each covered header, in the order of their names
    <SHA-256 of the record's value, hexadecimal>

The signature proves the query's tenant. It covers `infaas-task` (even if it is not sent as a header), all headers that
begin with `infaas-` except those added on the way (`UNCOVERED`), and the content headers. A key is named
`<tenant>.<number>`. The key `system` belongs to the parts of the system, and the tenant that these name is believed.
All keys are derived from one secret of the system, so no signing key is stored.

A gateway counts the queries that it refuses itself, and attaches the count to the next query that it accepts. Tenants'
shares and the scale depend on the count, so it carries an HMAC-SHA-256 by the system's secret, which is stored in
Postgres and no client has. It covers the query's id and its send time, so that a proof is valid for that query only.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from schemas import headers as h
from schemas.errors import InvalidRequest, OperatorError
from schemas.names import is_name

VERSION: Final = "v1"
SYSTEM: Final = "system"
LARGE_BYTES: Final = 256 * 1024
"""Size in bytes from which a value is hashed in a thread, because hashing would block the loop for over a millisecond.
"""
_KEY_PREFIX: Final = "infaas-sk"
_OURS: Final = "infaas-"
_MOST_DIGITS: Final = 15
UNCOVERED: Final = frozenset({h.SIGNATURE, h.CORRELATION, h.LINGER_NS, h.REJECTED_UPSTREAM, h.ATTEMPTS})
_CONTENT: Final = (h.CONTENT_TYPE, h.JSON_LENGTH)
_PURPOSE: Final = "infaas rejected upstream"


class SigningKey(NamedTuple):
    """A named signing key."""

    name: str
    secret: bytes

    @property
    def tenant(self) -> str:
        """The tenant that the key belongs to; empty for the system's key."""
        return self.name.rpartition(".")[0]

    def __str__(self) -> str:
        """Return the key in the text form that a tenant receives."""
        return f"{_KEY_PREFIX}.{self.name}.{_encoded(self.secret)}"

    def __repr__(self) -> str:
        """Return the key's name without its secret, for logs."""
        return f"SigningKey({self.name})"


def parse_key(text: str) -> SigningKey:
    """Parse a key in the text form that a tenant receives.

    Raises:
        OperatorError: the text is not a signing key.
    """
    prefix, _, rest = text.strip().partition(".")
    name, _, secret = rest.rpartition(".")
    tenant, _, number = name.rpartition(".")
    if prefix != _KEY_PREFIX or not is_name(tenant) or not number.isdecimal() or not secret:
        raise OperatorError(
            f"this is not a signing key: it must begin with {_KEY_PREFIX}., as `infaas tenants key` prints it"
        )
    return SigningKey(name, _decoded(secret))


def tenant_key(secret: bytes, tenant: str, number: int) -> SigningKey:
    """Derive the key of a tenant; each number gives another key."""
    return _derived(secret, f"{tenant}.{number}")


def system_key(secret: bytes) -> SigningKey:
    """Derive the key of the parts of the system."""
    return _derived(secret, SYSTEM)


def sign(key: SigningKey, task: str, fields: Mapping[str, str], value: bytes | None, at_ms: int) -> str:
    """Return the signature header of a query with these other headers.

    Raises:
        InvalidRequest: a header holds a newline, so it cannot be signed.
    """
    mac = _mac(key, task, fields, digest_of(value), at_ms)
    if mac is None:
        raise InvalidRequest("a header with a newline cannot be signed")
    return f"{VERSION} {key.name} {at_ms} {_encoded(mac)}"


def digest_of(value: bytes | None) -> str:
    """Return the SHA-256 of a record's value, in hexadecimal."""
    return hashlib.sha256(value or b"").hexdigest()


class QuerySignature(NamedTuple):
    """A parsed signature that is not verified yet."""

    key: str
    at_ms: int
    mac: bytes


def read_signature(text: str) -> QuerySignature | None:
    """Parse the header; None if it is not a signature."""
    version, _, rest = text.partition(" ")
    key, _, rest = rest.partition(" ")
    at_ms, _, mac = rest.partition(" ")
    if version != VERSION or not (at_ms.isascii() and at_ms.isdecimal() and len(at_ms) <= _MOST_DIGITS):
        return None
    try:
        return QuerySignature(key, int(at_ms), _decoded(mac))
    except OperatorError:
        return None


def is_signed_by(key: SigningKey, signature: QuerySignature, task: str, fields: Mapping[str, str], digest: str) -> bool:
    """Return true if the key made this signature; `digest` is the SHA-256 of the query's value, in hexadecimal."""
    made = _mac(key, task, fields, digest, signature.at_ms)
    return made is not None and hmac.compare_digest(made, signature.mac)


def _mac(key: SigningKey, task: str, fields: Mapping[str, str], digest: str, at_ms: int) -> bytes | None:
    """Return the HMAC; None if a header holds a newline, because it could then pass for two headers."""
    covered = {
        name: text
        for name, text in fields.items()
        if name in _CONTENT or (name.startswith(_OURS) and name not in UNCOVERED)
    }
    covered[h.TASK] = task
    lines = [VERSION, key.name, str(at_ms), *(f"{name}:{covered[name]}" for name in sorted(covered)), digest, ""]
    if any("\n" in line for line in lines):
        return None
    return hmac.digest(key.secret, "\n".join(lines).encode(), "sha256")


@lru_cache(maxsize=1024)
def _derived(secret: bytes, name: str) -> SigningKey:
    return SigningKey(name, hmac.digest(secret, f"infaas signing key {name}".encode(), "sha256"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise OperatorError("this is not base64url") from None


def rejected_upstream_proof(secret: bytes, task: str, query_id: str, sent_ns: str, count: str) -> str:
    """Return the proof of a count as header text; the other arguments are the query's headers as sent."""
    return base64.urlsafe_b64encode(_count_mac(secret, task, query_id, sent_ns, count)).decode()


def is_rejected_upstream_proof(secret: bytes, proof: str, task: str, query_id: str, sent_ns: str, count: str) -> bool:
    """Return true if the proof matches the count and the query."""
    return hmac.compare_digest(proof.encode(), rejected_upstream_proof(secret, task, query_id, sent_ns, count).encode())


def _count_mac(secret: bytes, *words: str) -> bytes:
    # The length before each word keeps texts of different words distinct.
    text = "".join(f"{len(word)}:{word}" for word in (_PURPOSE, *words))
    return hmac.digest(secret, text.encode(), "sha256")
