"""Uploads for registrations: the files that each tenant has sent, and their expiry.

A file is stored once, even if several tenants have it; a row records that a tenant has sent it. Space is reserved
before the first byte arrives and checked again before the file is stored, because two uploads of the same file share a
row and the first that fails cancels the reservation. No file is stored without a row. Unused files are deleted in small
groups, under a lock that prevents new uses.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from schemas.rows.registrations import Upload
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("registrations")
MOST_FILES: Final = 10_000
"""Maximum number of uploads of a tenant. It limits the cost per file, which does not depend on the size."""
_AT_ONCE: Final = 10
"""Files that are deleted under one lock."""


async def reserve_upload(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Reserve space for an upload, or return the existing upload; None: the tenant's limit would be exceeded.

    The limits are `most_bytes` and `MOST_FILES`.
    """
    async with pool.transaction() as session:
        await session.execute(_SQL["lock_tenant"], tenant)
        return await session.fetch_one(Upload, _SQL["reserve_upload"], tenant, sha256, size, most_bytes, MOST_FILES)


async def upload_arrived(pool: Pool, tenant: str, sha256: str, size: int, most_bytes: int) -> Upload | None:
    """Mark an upload as complete before its file is stored; None: the tenant's limit would be exceeded."""
    async with pool.transaction() as session:
        await session.execute(_SQL["lock_tenant"], tenant)
        return await session.fetch_one(Upload, _SQL["upload_arrived"], tenant, sha256, size, most_bytes, MOST_FILES)


async def give_up_upload(session: DatabaseSession, tenant: str, sha256: str) -> None:
    """Cancel the reservation of an upload that has not arrived."""
    await session.execute(_SQL["give_up_upload"], tenant, sha256)


async def get_upload(session: DatabaseSession, tenant: str, sha256: str) -> Upload | None:
    """Return an upload, or None."""
    return await session.fetch_one(Upload, _SQL["list_uploads"], tenant, sha256, 1)


async def list_uploads(session: DatabaseSession, tenant: str, limit: int = 1000) -> list[Upload]:
    """List a tenant's uploads, newest first."""
    return await session.fetch(Upload, _SQL["list_uploads"], tenant, None, limit)


async def upload_bytes(session: DatabaseSession, tenant: str) -> int:
    """Return the total bytes of a tenant's uploads."""
    return await session.fetch_value(int, _SQL["upload_bytes"], tenant) or 0


async def use_uploads(session: DatabaseSession, tenant: str, files: Collection[str]) -> set[str]:
    """Mark uploads as used; return the SHA-256 of the complete ones."""
    return {row.sha256 for row in await session.fetch(Upload, _SQL["use_uploads"], tenant, list(files))}


async def sweep_uploads(pool: Pool, age_s: float, discard: Callable[[str], Awaitable[None]]) -> int:
    """Delete uploads that were not used for `age_s` seconds; return their number.

    `discard` is called for each file that no other tenant has uploaded.
    """
    swept = 0
    while True:
        async with pool.transaction() as session:
            await session.execute(_SQL["lock_uploads"])
            gone = await session.fetch(Upload, _SQL["take_unused_uploads"], age_s, _AT_ONCE)
            files = {row.sha256 for row in gone}
            for sha256 in files.difference(await session.fetch_values(str, _SQL["kept_uploads"], list(files))):
                await discard(sha256)
        swept += len(gone)
        if len(gone) < _AT_ONCE:
            return swept
