"""Files and batches of OpenAI's API. A batch's lines are jobs (`store.jobs`), a file's content is an upload.

Any number of gateways may share the batches. Each locks the row of the batch that it works on until its transaction
ends, and skips rows locked by others. If a gateway is killed, Postgres releases the row.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, NamedTuple

from schemas import headers as h
from schemas.access import Principal
from schemas.jobs import JobEnd
from schemas.openai import BatchError, BatchStatus
from schemas.rows.batches import BatchRow, FileRow, LineReply, LineResult
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("batches")
_ROWS: Final = 500
_BYTES: Final = 16 * 1024 * 1024
"""Maximum number of results, and approximate maximum of their bytes, that are read at once."""


class NewBatch(NamedTuple):
    """Batch to store."""

    id: str
    caller: Principal
    input_file: str
    endpoint: str
    completion_window: str
    window_s: float
    metadata: dict[str, str] | None


class FailedLine(NamedTuple):
    """Line that is no valid query."""

    end: JobEnd
    model: str
    key: bytes
    """Idempotency key."""
    line: LineReply


# -- files -------------------------------------------------------------------------------------------------------------
async def put_file(
    session: DatabaseSession, file_id: str, tenant: str, name: str, purpose: str, sha256: str, kept_s: float
) -> FileRow | None:
    """Store a file for `kept_s` seconds, whose content is an upload of the tenant; None: the upload is gone."""
    return await session.fetch_one(FileRow, _SQL["put_file"], file_id, tenant, name, purpose, sha256, kept_s)


async def keep_upload(session: DatabaseSession, tenant: str, sha256: str, size: int) -> None:
    """Record content that the system writes for a tenant, before it is stored."""
    await session.execute(_SQL["keep_upload"], tenant, sha256, size)


async def list_files(
    session: DatabaseSession,
    tenant: str | None,
    *,
    file_id: str | None = None,
    purpose: str | None = None,
    after: str | None = None,
    oldest_first: bool = False,
    limit: int = 1,
) -> list[FileRow]:
    """List the files of a tenant, None: of all, that match every given filter; `after` is the last file before them."""
    args = (tenant, file_id, purpose, after, oldest_first, limit)
    return await session.fetch(FileRow, _SQL["list_files"], *args)


async def delete_file(session: DatabaseSession, file_id: str) -> bool:
    """Delete a file; false: an open batch reads it."""
    return await session.fetch_value(str, _SQL["delete_file"], file_id) is not None


async def expire_files(session: DatabaseSession) -> int:
    """Delete expired files; return their number."""
    return await session.execute(_SQL["expire_files"])


# -- batches -----------------------------------------------------------------------------------------------------------
async def put_batch(session: DatabaseSession, tenant: str | None, batch: NewBatch) -> bool:
    """Store a batch; false: the tenant has no such file."""
    args = (batch.id, tenant, *batch[1:])
    return await session.fetch_value(str, _SQL["put_batch"], *args) is not None


async def list_batches(
    session: DatabaseSession,
    tenant: str | None,
    *,
    batch_id: str | None = None,
    tasks: Collection[str] | None = None,
    after: str | None = None,
    limit: int = 1,
) -> list[BatchRow]:
    """List the batches of a tenant, None: of all, newest first.

    Args:
        session: session of the database.
        tenant: tenant of the batches; None: any.
        batch_id: id of the only batch.
        tasks: tasks to which all lines of a batch belong for certain; None: any.
        after: last batch before them.
        limit: maximum number.
    """
    allowed = None if tasks is None else list(tasks)
    return await session.fetch(BatchRow, _SQL["list_batches"], tenant, batch_id, after, limit, allowed)


async def cancel_batch(pool: Pool, batch_id: str) -> None:
    """Cancel a batch and its jobs; one that has ended stays as it is."""
    async with pool.transaction() as session:
        if await session.execute(_SQL["cancel_batch"], batch_id):
            await session.execute(_SQL["cancel_lines"], batch_id)


@asynccontextmanager
async def claiming_batch(pool: Pool) -> AsyncGenerator[tuple[DatabaseSession, BatchRow | None]]:
    """Claim a batch that can proceed and that no other gateway works on, while the context is open; None: none can.

    Raises:
        StoreUnavailable: Postgres is or became unavailable; the batch is as it was.
    """
    async with pool.transaction() as session:
        yield session, await session.fetch_one(BatchRow, _SQL["claim_batch"])


async def pass_batch(session: DatabaseSession, batch_id: str) -> None:
    """Let other batches come first."""
    await session.execute(_SQL["pass_batch"], batch_id)


async def start_batch(session: DatabaseSession, batch_id: str, total: int) -> None:
    """Record that the file of a batch is valid, and the number of its lines."""
    await session.execute(_SQL["start_batch"], batch_id, total)


async def fail_batch(session: DatabaseSession, batch_id: str, errors: Sequence[BatchError]) -> None:
    """End a batch whose file is invalid."""
    await session.execute(_SQL["fail_batch"], batch_id, list(errors))


async def advance_batch(session: DatabaseSession, batch_id: str, stored: int, position: int) -> None:
    """Record the number of stored lines, and the byte at which the next one begins."""
    await session.execute(_SQL["advance_batch"], batch_id, stored, position)


async def end_batch(
    session: DatabaseSession,
    batch_id: str,
    status: BatchStatus,
    counts: tuple[int, int],
    files: tuple[str | None, str | None],
    finalized_at: datetime,
) -> None:
    """End a batch; `counts` and `files` are those of answers and of errors."""
    await session.execute(_SQL["end_batch"], batch_id, status, *counts, *files, finalized_at)


async def put_failed_lines(session: DatabaseSession, batch: BatchRow, lines: Sequence[FailedLine]) -> None:
    """Store lines that are no valid queries as failed jobs; idempotent."""
    columns = [
        [one.end.id for one in lines],
        [one.model for one in lines],
        [one.end.headers for one in lines],
        [one.end.value for one in lines],
        [one.key for one in lines],
        [one.line for one in lines],
    ]
    shared = {h.TENANT: batch.tenant} if batch.tenant else {}
    await session.execute(_SQL["put_failed_lines"], *columns, shared, batch.id)


async def has_open_lines(session: DatabaseSession, batch_id: str) -> bool:
    """Return true if a job of a batch has not ended."""
    return bool(await session.fetch_value(bool, _SQL["has_open_lines"], batch_id))


async def known_keys(session: DatabaseSession, batch_id: str, keys: Sequence[bytes]) -> set[bytes]:
    """Return the idempotency keys, of those given, that jobs of a batch have."""
    return set(await session.fetch_value(list[bytes], _SQL["known_keys"], batch_id, list(keys)) or ())


async def line_results(session: DatabaseSession, batch_id: str, after: str) -> list[LineResult]:
    """List ended jobs of a batch by their ids, from the one after `after`; at least one if there is one."""
    return await session.fetch(LineResult, _SQL["line_results"], batch_id, after, _ROWS, _BYTES)


async def prune_batches(session: DatabaseSession, kept_s: float) -> int:
    """Delete batches that ended at least `kept_s` seconds ago; return their number."""
    return await session.execute(_SQL["prune_batches"], kept_s)
