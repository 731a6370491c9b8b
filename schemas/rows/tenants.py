"""Rows of the tenants that ask over Kafka by a topic of their own."""

from datetime import datetime

import msgspec

from schemas.defaults import PARTITIONS


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant whose queries are known by the topic that they come in on."""

    name: str
    partitions: int = PARTITIONS
    """Of its topics of queries, online and offline."""
    kafka_user: str = ""
    """Kafka's user that may write there, by the name it logs in with. Empty: ACLs are somebody else's care."""
    key_number: int = 0
    """Number of the key that signs its queries; those before it are void. 0: it has been given none."""
    removing: bool = False
    """Whether it is being removed: what is in its topics is answered still."""
    created_at: datetime | None = None
