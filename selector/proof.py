"""Whether a signed query is its tenant's, and was not there before; and whether a gateway's count is a gateway's.

Rules.
* The time in a signature and that at which the broker appended the record must be close: what somebody kept, and sends
  again later, is refused.
* What is sent again within that time is the same query once more, as a producer's own retry is: one is answered. So it
  is passed over in silence, by a selector that remembers the first. It remembers so many; beyond, and where another
  selector has the partition, it is computed again, at most once a selector.
* A query that is signed anew, to wait, is not to be taken for another: of those with its id each has a time of its own.
* A record that is delivered again is none: it stands in the same place.
* A gateway's count of the queries that it refused counts if the gateway proves it with this very query, sent within a
  minute, and once. Anybody else's counts for nothing, and costs its sender nothing either.

Costs nothing where nobody signs.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from broker.kafka_types import Record
from process.signing import vouch
from schemas import headers as h
from schemas.errors import Forbidden
from schemas.query import MAX_TURNED_AWAY, Query
from security.signature import (
    SYSTEM,
    SigningKey,
    digest_of,
    is_signed_by,
    read_signature,
    system_key,
    tenant_key,
)
from security.turned_away import is_turned_away_proof

_FRESH_MS: Final = 60_000.0
"""Longest time between a gateway's send and the record: beyond, the producer has given the query up."""
_REMEMBERED: Final = 65_536
_WRONG: Final = f"header {h.SIGNATURE} is not right: is the key the present one, and was all signed that is sent?"


class Replayed(Exception):
    """Error of a signed record that stands in another place, too."""


class Proof(NamedTuple):
    """The result of a signature that is right."""

    tenant: str | None
    """The tenant that asks; None: a part of the system asks for nobody."""
    by_system: bool
    """Whether a part of the system signed, rather than the tenant itself."""


async def signed_digest(record: Record) -> str | None:
    """SHA-256 of a large value, made beside the loop; None: nobody signed it."""
    if any(name == h.SIGNATURE for name, _ in record.headers):
        return await asyncio.to_thread(digest_of, record.value)
    return None


class Verifier:
    """Verifier of signatures, with the `secret` that all keys are made of; without, none is right."""

    def __init__(
        self, secret: bytes | None = None, window_s: float = 300.0, system_secret: bytes | None = None
    ) -> None:
        """`system_secret` is what gateways prove their counts by; without, none counts."""
        self.key_numbers: Mapping[str, int] = {}
        """By tenant, the number of its present key."""
        self._secret = secret
        self._system_secret = system_secret
        self._window_ms = window_s * 1e3
        self._seen: dict[bytes, tuple[str, int, int]] = {}
        self._counted: dict[str, tuple[str, int, int]] = {}
        """By proof of a count, the record that it came with."""
        self._signed_ms: dict[str, int] = {}
        """By id of a query, the last time in a signature of it, the latest last."""

    def verify(self, record: Record, task: str, fields: Mapping[str, str], digest: str | None) -> Proof:
        """Verify a signature; `digest` is the value's, where that was worked out before.

        Raises:
            Forbidden: nothing is proved.
            Replayed: the query was there before.
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
            raise Forbidden(f"header {h.TENANT} names another tenant than the one that signed")
        away_ms = abs(signature.at_ms - record.timestamp)
        if away_ms > self._window_ms:
            raise Forbidden(
                f"the query was signed {away_ms / 1e3:.0f} s away from when Kafka got it: is the clock right?"
            )
        place = record.topic, record.partition, record.offset
        if self._seen.setdefault(signature.mac, place) != place:
            raise Replayed
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return Proof(tenant, not key.tenant)

    def turned_away(self, record: Record, query: Query, fields: Mapping[str, str]) -> int:
        """The number of queries that a gateway proves to have refused since the one before; 0 if nothing proves it."""
        count, proof, sent_ns = (fields.get(name, "") for name in (h.TURNED_AWAY, h.TURNED_AWAY_PROOF, h.SENT_NS))
        if self._system_secret is None or not (_is_count(count) and _is_count(sent_ns)):
            return 0
        if abs(int(sent_ns) / 1e6 - record.timestamp) > _FRESH_MS:
            return 0
        if not is_turned_away_proof(self._system_secret, proof, query.task, query.id, sent_ns, count):
            return 0
        place = record.topic, record.partition, record.offset
        if self._counted.setdefault(proof, place) != place:
            return 0
        if len(self._counted) > _REMEMBERED:
            del self._counted[next(iter(self._counted))]
        return min(int(count), MAX_TURNED_AWAY)

    async def sign(self, query: Query, headers: h.RawHeaders, value: bytes | None, at_ms: float) -> h.RawHeaders:
        """Headers of a query whose tenant is proved, with the system's own signature."""
        if self._secret is None:
            return headers
        own_ms = self._signed_ms[query.id] = max(int(at_ms), self._signed_ms.pop(query.id, 0) + 1)
        if len(self._signed_ms) > _REMEMBERED:
            del self._signed_ms[next(iter(self._signed_ms))]
        return [*headers, await vouch(self._secret, query.task, headers, value, own_ms)]

    def _key(self, secret: bytes, name: str) -> SigningKey | None:
        if name == SYSTEM:
            return system_key(secret)
        tenant, _, number = name.rpartition(".")
        present = self.key_numbers.get(tenant, 0)
        return tenant_key(secret, tenant, present) if present and number == str(present) else None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
