"""The secret by which services of one system prove to one another what no client may say. Made with the tables."""

from typing import Final

from store.errors import StoreUnavailable
from store.pool import DatabaseSession
from store.sql import load_queries

_READ: Final = load_queries("system_secret")["read_system_secret"]


async def read_system_secret(session: DatabaseSession) -> bytes:
    """The secret, which never changes.

    Raises:
        StoreUnavailable: Postgres is away, or the row was deleted.
    """
    secret = await session.fetch_value(bytes, _READ)
    if secret is None:
        raise StoreUnavailable("the table system_secret is empty: restore it from a backup")
    return secret
