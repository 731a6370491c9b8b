"""Verification of signed queries, protection against replays, and verification of gateways' counts.

Rules.
* The time in a signature and the record's append time must be close, so an old copy of a query is refused.
* A copy within that time is the same query again, like a producer's own retry, and one of the two is answered. The
  selector that remembers the first drops the copy without an answer. The memory is bounded; beyond it, and after the
  partition moved to another selector, the copy is computed again, at most once per selector.
* A query that is signed again when it is moved must not count as a replay: each signature of one id gets a distinct
  time.
* A redelivered record is no replay, because its topic, partition and offset are the same.
* A gateway's count of refused queries is valid once, if it is proved for this query, sent within a minute. An invalid
  count is ignored, and the query is handled without it.

Unsigned queries cost nothing here.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from broker.kafka.types import Record
from process.security.signature import (
    SYSTEM,
    SigningKey,
    digest_of,
    is_rejected_upstream_proof,
    is_signed_by,
    read_signature,
    system_key,
    tenant_key,
)
from process.signing import sign_headers
from schemas import headers as h
from schemas.errors import Forbidden
from schemas.query import MAX_REJECTED_UPSTREAM, Query

_FRESH_MS: Final = 60_000.0
"""Longest time in milliseconds between a gateway's send and the append; a producer gives up before."""
_REMEMBERED: Final = 65_536
_WRONG: Final = f"header {h.SIGNATURE} is invalid: use the present key, and sign the headers and the value as sent"
_Place: TypeAlias = tuple[str, int, int]
"""Topic, partition and offset."""
_T = TypeVar("_T")


class Replayed(Exception):
    """A signed record was already seen at another offset."""


class Proof(NamedTuple):
    """Result of a valid signature."""

    tenant: str | None
    """The query's tenant; None if a part of the system asks for no tenant."""
    by_system: bool
    """True if a part of the system signed, not the tenant."""


async def signed_digest(record: Record) -> str | None:
    """Return the SHA-256 of a large signed value, computed in a thread; None if the record is unsigned."""
    if any(name == h.SIGNATURE for name, _ in record.headers):
        return await asyncio.to_thread(digest_of, record.value)
    return None


class Verifier:
    """Verifier of signatures by the `secret` that all keys are derived from; without a secret, all are invalid."""

    def __init__(
        self, secret: bytes | None = None, window_s: float = 300.0, system_secret: bytes | None = None
    ) -> None:
        """Set `system_secret`, by which gateways prove their counts; without it, counts are ignored."""
        self.key_numbers: Mapping[str, int] = {}
        """Number of each tenant's present key."""
        self._secret = secret
        self._system_secret = system_secret
        self._window_ms = window_s * 1e3
        self._seen: dict[bytes, _Place] = {}
        self._counted: dict[str, _Place] = {}
        """Record that each proof of a count came with."""
        self._signed_ms: dict[str, int] = {}
        """Latest time in the signatures of each query id; most recent entry last."""

    def verify(self, record: Record, task: str, fields: Mapping[str, str], digest: str | None) -> Proof:
        """Verify a signature; `digest` is the SHA-256 of the value, if it is known already.

        Raises:
            Forbidden: the signature is invalid.
            Replayed: the query was seen before.
        """
        if self._secret is None:
            raise Forbidden("this system cannot verify signatures: INFAAS_SIGNING_SECRET is not set for its selectors")
        signature = read_signature(fields[h.SIGNATURE])
        key = None if signature is None else self._key(self._secret, signature.key)
        if signature is None or key is None:
            raise Forbidden(_WRONG)
        if not is_signed_by(key, signature, task, fields, digest or digest_of(record.value)):
            raise Forbidden(_WRONG)
        tenant = key.tenant or fields.get(h.TENANT)
        if fields.get(h.TENANT, tenant) != tenant:
            raise Forbidden(f"header {h.TENANT} names a tenant other than the signer")
        away_ms = abs(signature.at_ms - record.timestamp)
        if away_ms > self._window_ms:
            raise Forbidden(
                f"the query was signed {away_ms / 1e3:.0f} s before or after Kafka received it: check the clock"
            )
        if not _is_first(record, signature.mac, self._seen):
            raise Replayed
        return Proof(tenant, not key.tenant)

    def rejected_upstream(self, record: Record, query: Query, fields: Mapping[str, str]) -> int:
        """Return the proved number of queries that a gateway refused since its last query; 0 without a valid proof."""
        count, proof, sent_ns = (
            fields.get(name, "") for name in (h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF, h.SENT_NS)
        )
        if self._system_secret is None or not (h.is_count(count) and h.is_count(sent_ns)):
            return 0
        if abs(int(sent_ns) / 1e6 - record.timestamp) > _FRESH_MS:
            return 0
        if not is_rejected_upstream_proof(self._system_secret, proof, query.task, query.id, sent_ns, count):
            return 0
        return min(int(count), MAX_REJECTED_UPSTREAM) if _is_first(record, proof, self._counted) else 0

    async def sign(self, query: Query, headers: h.RawHeaders, value: bytes | None, at_ms: float) -> h.RawHeaders:
        """Return the headers of a query with a proved tenant, with the system's own signature added."""
        if self._secret is None:
            return headers
        own_ms = self._signed_ms[query.id] = max(int(at_ms), self._signed_ms.pop(query.id, 0) + 1)
        _forget_oldest(self._signed_ms)
        return [*headers, await sign_headers(self._secret, query.task, headers, value, own_ms)]

    def _key(self, secret: bytes, name: str) -> SigningKey | None:
        if name == SYSTEM:
            return system_key(secret)
        tenant, _, number = name.rpartition(".")
        present = self.key_numbers.get(tenant, 0)
        return tenant_key(secret, tenant, present) if present and number == str(present) else None


def _is_first(record: Record, proof: _T, seen: dict[_T, _Place]) -> bool:
    """Return true if a record is the first one with a proof, or the same one again."""
    place = record.topic, record.partition, record.offset
    is_first = seen.setdefault(proof, place) == place
    _forget_oldest(seen)
    return is_first


def _forget_oldest(remembered: dict[_T, Any]) -> None:
    if len(remembered) > _REMEMBERED:
        del remembered[next(iter(remembered))]
