"""Signatures of queries: they prove whose one is where others may write the topic, too. Pure.

    infaas-signature: v1 <key> <milliseconds since the epoch> <HMAC-SHA-256, base64url without padding>

What is signed, all UTF-8, each line ended by a newline:

    v1
    <key>
    <milliseconds>
    <name>:<value>        each covered header, in the order of their names
    <SHA-256 of the record's value, hexadecimal>

Covered are `infaas-task`, whether it is a header or not, all headers that begin with `infaas-` but those that are added
on the way (`UNCOVERED`), and those of the content. A key is named `<tenant>.<number>`, or `system`: that of the parts
of the system itself, whose word for the tenant is believed. All are derived from one secret of the system, so nothing
is stored that could sign.
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
"""Size from which on a value is hashed in a thread: more would hold up a loop for longer than a millisecond."""
_KEY_PREFIX: Final = "infaas-sk"
_OURS: Final = "infaas-"
_MOST_DIGITS: Final = 15
UNCOVERED: Final = frozenset({h.SIGNATURE, h.CORRELATION, h.LINGER_NS, h.TURNED_AWAY, h.ATTEMPTS})
_CONTENT: Final = (h.CONTENT_TYPE, h.JSON_LENGTH)


class SigningKey(NamedTuple):
    """A key that signs, and its name."""

    name: str
    secret: bytes

    @property
    def tenant(self) -> str:
        """The tenant whose key it is; empty: it is the system's."""
        return self.name.rpartition(".")[0]

    def __str__(self) -> str:
        """The key as it is handed to a tenant."""
        return f"{_KEY_PREFIX}.{self.name}.{_encoded(self.secret)}"

    def __repr__(self) -> str:
        """The key without its secret, for logs."""
        return f"SigningKey({self.name})"


def parse_key(text: str) -> SigningKey:
    """Read a key as it is handed to a tenant.

    Raises:
        OperatorError: it is none.
    """
    prefix, _, rest = text.strip().partition(".")
    name, _, secret = rest.rpartition(".")
    tenant, _, number = name.rpartition(".")
    if prefix != _KEY_PREFIX or not is_name(tenant) or not number.isdecimal() or not secret:
        raise OperatorError(f"this is no signing key: one begins with {_KEY_PREFIX}., `infaas tenants key` makes it")
    return SigningKey(name, _decoded(secret))


def tenant_key(secret: bytes, tenant: str, number: int) -> SigningKey:
    """The key of a tenant; another number is another key."""
    return _derived(secret, f"{tenant}.{number}")


def system_key(secret: bytes) -> SigningKey:
    """The key of the parts of the system."""
    return _derived(secret, SYSTEM)


def sign(key: SigningKey, task: str, fields: Mapping[str, str], value: bytes | None, at_ms: int) -> str:
    """The header that signs a query, which has these other headers.

    Raises:
        InvalidRequest: a header cannot be signed.
    """
    mac = _mac(key, task, fields, digest_of(value), at_ms)
    if mac is None:
        raise InvalidRequest("a header with a newline cannot be signed")
    return f"{VERSION} {key.name} {at_ms} {_encoded(mac)}"


def digest_of(value: bytes | None) -> str:
    """SHA-256 of a record's value, in hexadecimal."""
    return hashlib.sha256(value or b"").hexdigest()


class QuerySignature(NamedTuple):
    """What a signature says; whether it is right is to be seen."""

    key: str
    at_ms: int
    mac: bytes


def read_signature(text: str) -> QuerySignature | None:
    """Read the header; None: it is no signature."""
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
    """Whether a key made this signature of a query whose value has this SHA-256, in hexadecimal."""
    made = _mac(key, task, fields, digest, signature.at_ms)
    return made is not None and hmac.compare_digest(made, signature.mac)


def _mac(key: SigningKey, task: str, fields: Mapping[str, str], digest: str, at_ms: int) -> bytes | None:
    """The signature's last word; None: a header holds a newline, so that it could be taken for two."""
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
