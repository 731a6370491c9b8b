"""Proof that a count of refused queries comes from a gateway. Pure.

A gateway counts the queries that it refuses itself, and attaches the count to the next query that it accepts. Tenants'
shares and the scale depend on the count, and clients may write to the same topics. So the count carries an HMAC-SHA-256
by the system's secret, which is stored in Postgres and no client has. It covers the query's id and its send time, so
that a proof is valid for that query only.
"""

import base64
import hmac
from typing import Final

_PURPOSE: Final = "infaas rejected upstream"


def rejected_upstream_proof(secret: bytes, task: str, query_id: str, sent_ns: str, count: str) -> str:
    """Return the proof of a count as header text; the other arguments are the query's headers as sent."""
    return base64.urlsafe_b64encode(_mac(secret, task, query_id, sent_ns, count)).decode()


def is_rejected_upstream_proof(secret: bytes, proof: str, task: str, query_id: str, sent_ns: str, count: str) -> bool:
    """Return true if the proof matches the count and the query."""
    return hmac.compare_digest(proof.encode(), rejected_upstream_proof(secret, task, query_id, sent_ns, count).encode())


def _mac(secret: bytes, *words: str) -> bytes:
    # The length before each word keeps texts of different words distinct.
    text = "".join(f"{len(word)}:{word}" for word in (_PURPOSE, *words))
    return hmac.digest(secret, text.encode(), "sha256")
