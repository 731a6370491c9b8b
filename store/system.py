"""Identity of the system that the tables belong to: its id, and the namespace of its topics in Kafka."""

from typing import Final

import msgspec

from store.pool import DatabaseSession
from store.sql import load_queries

_queries = load_queries("system")
_READ: Final = _queries["read_system"]
_CLAIM: Final = _queries["claim_namespace"]


class SystemRow(msgspec.Struct, frozen=True):
    """The only row of the table `system`."""

    id: str
    namespace: str
    """Empty until a service of the system has started."""


async def read_system(session: DatabaseSession) -> SystemRow:
    """Return the identity of the system."""
    row = await session.fetch_one(SystemRow, _READ)
    assert row is not None  # a migration writes it
    return row


async def claim_namespace(session: DatabaseSession, namespace: str, *, move: bool = False) -> SystemRow:
    """Store the namespace of the topics if none is stored; return the identity with the stored namespace.

    `move` replaces a stored namespace.
    """
    row = await session.fetch_one(SystemRow, _CLAIM, namespace, move)
    return row if row is not None else await read_system(session)
