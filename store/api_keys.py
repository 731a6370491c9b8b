"""API keys: stored, listed and revoked, and cached in memory, because every query needs authentication.

During an outage of Postgres the last snapshot stays in use: existing keys remain valid until they expire.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Final

import msgspec

from schemas.rows.tenants import ApiKeyRow
from store.pool import DatabaseSession, Pool, load_queries
from store.shared_connection import API_KEYS, SharedConnection
from store.watcher import Watcher

_SQL: Final = load_queries("api_keys")


async def put_key(session: DatabaseSession, key: ApiKeyRow) -> ApiKeyRow:
    """Store a new key or certificate, and return the stored row.

    Raises:
        StoreConflict: a key with this id exists, or a certificate of this name that is not revoked.
    """
    roles = [role.value for role in key.roles]
    shown = key.id, key.secret_hash, key.certificate
    allowed = key.tenant, roles, key.tasks, key.per_second, key.concurrent
    more = key.note, key.created_by, key.expires_at
    created_at = await session.fetch_value(datetime, _SQL["put_key"], *shown, *allowed, *more)
    return msgspec.structs.replace(key, created_at=created_at)


async def list_keys(
    session: DatabaseSession, *, ids: Collection[str] | None = None, tenant: str | None = None
) -> list[ApiKeyRow]:
    """List all keys, the keys with these ids, or those of a tenant; newest last."""
    return await session.fetch(ApiKeyRow, _SQL["list_keys"], None if ids is None else list(ids), tenant)


async def revoke_keys(session: DatabaseSession, ids: Collection[str]) -> list[str]:
    """Revoke keys; return the ids of the keys that were not revoked before."""
    return await session.fetch_values(str, _SQL["revoke_keys"], list(ids))


async def set_quota(
    session: DatabaseSession, key_id: str, per_second: float | None, concurrent: int | None
) -> ApiKeyRow | None:
    """Set the quota of a key; return the key, or None if it does not exist or is no longer valid."""
    return await session.fetch_one(ApiKeyRow, _SQL["set_quota"], key_id, per_second, concurrent)


async def admin_keys_left(session: DatabaseSession) -> int:
    """Return the number of administrators' keys that are valid."""
    return await session.fetch_value(int, _SQL["admin_keys_left"]) or 0


class KeyWatcher(Watcher[Mapping[str, ApiKeyRow]]):
    """Watcher of all keys by id, including revoked and expired ones.

    `source` is a DSN, or a connection shared with other components.
    """

    def __init__(self, source: str | SharedConnection) -> None:
        super().__init__(source, API_KEYS, {}, _load, _update)


async def _load(pool: Pool) -> Mapping[str, ApiKeyRow]:
    return {key.id: key for key in await list_keys(pool)}


async def _update(pool: Pool, known: Mapping[str, ApiKeyRow], changed: Collection[str]) -> Mapping[str, ApiKeyRow]:
    ids = {said.partition(" ")[2] for said in changed}
    found = {key.id: key for key in await list_keys(pool, ids=ids)}
    return {name: key for name, key in known.items() if name not in ids} | found
