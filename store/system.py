"""Identity of the system that the tables belong to: its id, the namespace of its topics in Kafka, and its secret."""

from typing import Final

import msgspec

from store.errors import StoreUnavailable
from store.pool import DatabaseSession, load_queries

_SQL: Final = load_queries("system")


class SystemRow(msgspec.Struct, frozen=True):
    """The only row of the table `system`."""

    id: str
    namespace: str
    """Empty until a service of the system has started."""


async def read_system(session: DatabaseSession) -> SystemRow:
    """Return the identity of the system."""
    row = await session.fetch_one(SystemRow, _SQL["read_system"])
    assert row is not None  # a migration writes it
    return row


async def claim_namespace(session: DatabaseSession, namespace: str, *, move: bool = False) -> SystemRow:
    """Store the namespace of the topics if none is stored; return the identity with the stored namespace.

    `move` replaces a stored namespace.
    """
    row = await session.fetch_one(SystemRow, _SQL["claim_namespace"], namespace, move)
    return row if row is not None else await read_system(session)


async def read_system_secret(session: DatabaseSession) -> bytes:
    """Return the secret with which services sign values that clients could otherwise forge; it never changes.

    Raises:
        StoreUnavailable: Postgres is unavailable, or the row was deleted.
    """
    secret = await session.fetch_value(bytes, _SQL["read_system_secret"])
    if secret is None:
        raise StoreUnavailable("the table system_secret is empty: restore it from a backup")
    return secret
