"""API keys: kept, listed, revoked, and all of them in memory, kept current, for who asks is looked up for each query.

Like the catalog: a change says which rows changed, and only these are read. While Postgres is away the last state goes
on: who had a key still has, and a key that expires still does.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import msgspec

from schemas.rows.api_keys import ApiKeyRow
from store.change_listener import API_KEYS, ChangeListener
from store.errors import StoreUnavailable
from store.pool import DatabaseSession, Pool
from store.shared_connection import SharedConnection
from store.sql import load_queries

_queries = load_queries("api_keys")
_PUT_KEY: Final = _queries["put_key"]
_LIST_KEYS: Final = _queries["list_keys"]
_REVOKE_KEYS: Final = _queries["revoke_keys"]
_SET_QUOTA: Final = _queries["set_quota"]
_ADMIN_KEYS_LEFT: Final = _queries["admin_keys_left"]
_AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)


class KeyId(msgspec.Struct):
    """Row with nothing but the id of a key."""

    id: str


async def put_key(session: DatabaseSession, key: ApiKeyRow) -> None:
    """Keep a new key.

    Raises:
        StoreConflict: one of this id is kept already.
    """
    roles = [role.value for role in key.roles]
    fields = (key.id, key.secret_hash, key.tenant, roles, key.tasks, key.per_second, key.concurrent)
    await session.execute(_PUT_KEY, *fields, key.note, key.created_by, key.expires_at)


async def list_keys(
    session: DatabaseSession, *, ids: Collection[str] | None = None, tenant: str | None = None
) -> list[ApiKeyRow]:
    """List all keys, or those of these ids, or of a tenant; the latest last."""
    return await session.fetch(ApiKeyRow, _LIST_KEYS, None if ids is None else list(ids), tenant)


async def revoke_keys(session: DatabaseSession, ids: Collection[str]) -> list[str]:
    """Have keys count no longer; returns those that did until now."""
    return [row.id for row in await session.fetch(KeyId, _REVOKE_KEYS, list(ids))]


async def set_quota(
    session: DatabaseSession, key_id: str, per_second: float | None, concurrent: int | None
) -> ApiKeyRow | None:
    """Have a key ask no more than this; returns it, or None if there is none, or it has ended."""
    return await session.fetch_one(ApiKeyRow, _SET_QUOTA, key_id, per_second, concurrent)


async def admin_keys_left(session: DatabaseSession) -> int:
    """Count the administrators' keys that are valid."""
    return await session.fetch_value(int, _ADMIN_KEYS_LEFT) or 0


class KeyWatcher:
    """Watcher that keeps `current` up to date; an async context manager whose entry waits for the first snapshot.

    Args:
        source: a DSN, to which it has a connection of its own then, or the connection that it shares with others.

    Raises:
        StoreUnavailable: on entry, when Postgres cannot be reached. Later outages only delay the next snapshot.
    """

    def __init__(self, source: str | SharedConnection) -> None:
        self._source = source
        self._stack = AsyncExitStack()
        self._follower: asyncio.Task[None] | None = None
        self.current: Mapping[str, ApiKeyRow] = {}
        """Keys by their ids; revoked and expired ones are among them."""

    async def __aenter__(self) -> "KeyWatcher":
        async with AsyncExitStack() as stack:
            pool = self._source
            if isinstance(pool, str):
                pool = await stack.enter_async_context(SharedConnection(pool))
            self.current = {key.id: key for key in await list_keys(pool)}
            changes = await stack.enter_async_context(ChangeListener(pool, [API_KEYS]))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._follower = tasks.create_task(self._follow(pool, changes), name="API keys")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._follower is not None:
            self._follower.cancel()
        await self._stack.__aexit__(kind, error, trace)

    async def _follow(self, pool: Pool, changes: ChangeListener) -> None:
        async for _channel in changes:
            ids = None if changes.taken is None else {said.partition(" ")[2] for said in changes.taken}
            try:
                found = {key.id: key for key in await list_keys(pool, ids=ids)}
            except StoreUnavailable as error:
                log.warning("keeping the API keys known last: %s", error)
                changes.mark_changed(API_KEYS)
                await asyncio.sleep(_AGAIN_S)
                continue
            kept = {} if ids is None else {name: key for name, key in self.current.items() if name not in ids}
            self.current = kept | found
