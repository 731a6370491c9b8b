"""What was uploaded for registrations: which files of whom are there, and when they go.

A file is kept once, whoever has it; a row says that a tenant has sent it. Room is taken before the first byte is, and
counted again before the file is kept: two of the same share a row, and whichever fails gives it back. No file is kept
without a row that says so. What nobody needs goes file by file, while nobody can begin to need it.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec

from schemas.rows.registrations import Upload
from store.pool import DatabaseSession, Pool
from store.sql import load_queries

_queries = load_queries("registrations")
_LOCK_TENANT: Final = _queries["lock_tenant"]
_RESERVE: Final = _queries["reserve_upload"]
_ARRIVED: Final = _queries["upload_arrived"]
_GIVE_UP: Final = _queries["give_up_upload"]
_LIST: Final = _queries["list_uploads"]
_USE: Final = _queries["use_uploads"]
_BYTES: Final = _queries["upload_bytes"]
_LOCK: Final = _queries["lock_uploads"]
_TAKE_UNUSED: Final = _queries["take_unused_uploads"]
_KEPT: Final = _queries["kept_uploads"]
MOST_FILES: Final = 10_000
"""Uploads of a tenant: a file takes room, and time to look through, however few bytes it has."""
_AT_ONCE: Final = 10
"""Files that are discarded while others wait."""


class _Text(msgspec.Struct):
    text: str


async def reserve_upload(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Take room for an upload, or find it; None: the tenant's would be more than `most_bytes`, or `MOST_FILES`."""
    async with pool.transaction() as session:
        await session.execute(_LOCK_TENANT, tenant)
        return await session.fetch_one(Upload, _RESERVE, tenant, sha256, size, most_bytes, MOST_FILES)


async def upload_arrived(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Note that all of an upload has come, before it is kept; None: the tenant's would be too much with it."""
    async with pool.transaction() as session:
        await session.execute(_LOCK_TENANT, tenant)
        return await session.fetch_one(Upload, _ARRIVED, tenant, sha256, size, most_bytes, MOST_FILES)


async def give_up_upload(session: DatabaseSession, tenant: str, sha256: str) -> None:
    """Give the room back of an upload that has not arrived."""
    await session.execute(_GIVE_UP, tenant, sha256)


async def get_upload(session: DatabaseSession, tenant: str, sha256: str) -> Upload | None:
    """Read what is known of an upload."""
    return await session.fetch_one(Upload, _LIST, tenant, sha256, 1)


async def list_uploads(session: DatabaseSession, tenant: str, limit: int = 1000) -> list[Upload]:
    """List what a tenant has uploaded, the latest first."""
    return await session.fetch(Upload, _LIST, tenant, None, limit)


async def upload_bytes(session: DatabaseSession, tenant: str) -> int:
    """Count the bytes of all uploads of a tenant."""
    return await session.fetch_value(int, _BYTES, tenant) or 0


async def use_uploads(session: DatabaseSession, tenant: str, files: Collection[str]) -> set[str]:
    """Note that files are needed from now on; returns those that are there."""
    return {row.sha256 for row in await session.fetch(Upload, _USE, tenant, list(files))}


async def sweep_uploads(pool: Pool, age_s: float, discard: Callable[[str], Awaitable[None]]) -> int:
    """Forget uploads that nobody has used for so long, and discard those that nobody else has; returns how many."""
    swept = 0
    while True:
        async with pool.transaction() as session:
            await session.execute(_LOCK)
            gone = await session.fetch(Upload, _TAKE_UNUSED, age_s, _AT_ONCE)
            files = {row.sha256 for row in gone}
            for sha256 in files - {row.text for row in await session.fetch(_Text, _KEPT, list(files))}:
                await discard(sha256)
        swept += len(gone)
        if len(gone) < _AT_ONCE:
            return swept
