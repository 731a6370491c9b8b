"""Secret with which services of one system sign values that clients could otherwise forge. A migration creates it."""

from typing import Final

from store.errors import StoreUnavailable
from store.pool import DatabaseSession
from store.sql import load_queries

_READ: Final = load_queries("system_secret")["read_system_secret"]


async def read_system_secret(session: DatabaseSession) -> bytes:
    """Return the secret, which never changes.

    Raises:
        StoreUnavailable: Postgres is unavailable, or the row was deleted.
    """
    secret = await session.fetch_value(bytes, _READ)
    if secret is None:
        raise StoreUnavailable("the table system_secret is empty: restore it from a backup")
    return secret
