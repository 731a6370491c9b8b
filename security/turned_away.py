"""Proof that a count of refused queries is a gateway's own. Pure.

A gateway that refuses queries itself says with the next one that it lets through how many these were. Shares of tenants
and the scale follow from that number, and clients write to the same topics: so the number comes with an HMAC-SHA-256 by
the secret of the system, which stands in Postgres and which no client has. It covers the query's id and the time at
which it was sent, so that the proof is worth nothing beside another query.
"""

import base64
import hmac
from typing import Final

_PURPOSE: Final = "infaas turned away"


def turned_away_proof(secret: bytes, task: str, query_id: str, sent_ns: str, count: str) -> str:
    """The proof of a count, as a header; all but the secret are the query's headers as they are sent."""
    return base64.urlsafe_b64encode(_mac(secret, task, query_id, sent_ns, count)).decode()


def is_turned_away_proof(secret: bytes, proof: str, task: str, query_id: str, sent_ns: str, count: str) -> bool:
    """Whether this is the proof of that count."""
    return hmac.compare_digest(proof.encode(), turned_away_proof(secret, task, query_id, sent_ns, count).encode())


def _mac(secret: bytes, *words: str) -> bytes:
    # Each word says how long it is: two queries never have the same text.
    text = "".join(f"{len(word)}:{word}" for word in (_PURPOSE, *words))
    return hmac.digest(secret, text.encode(), "sha256")
