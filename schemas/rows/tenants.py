"""Rows of tenants that send queries over Kafka to a topic of their own."""

from datetime import datetime

import msgspec

from schemas.defaults import PARTITIONS


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Tenant that is identified by the topic of its queries."""

    name: str
    partitions: int = PARTITIONS
    """Partitions of each of its topics of queries, online and offline."""
    kafka_user: str = ""
    """Kafka user, by its login name, that may write there. Empty: ACLs are managed elsewhere."""
    key_number: int = 0
    """Number of the present signing key; keys with smaller numbers are revoked. 0: it has no key."""
    removing: bool = False
    """True while the tenant is being removed; queries in its topics are still answered."""
    created_at: datetime | None = None
