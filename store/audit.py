"""Audit log: every action of an administrator is recorded.

If an action is one transaction, the record is part of it, so both are committed or neither. If it fails, the attempt is
recorded. An action with several steps, or on Kafka, is recorded before it begins and again when it ends; after an
interruption its outcome stays `begun`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Final

from schemas.rows.audit import AuditAct, AuditOutcome, AuditRow
from store.errors import StoreUnavailable
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("audit")


@asynccontextmanager
async def audited_transaction(pool: Pool, act: AuditAct) -> AsyncGenerator[DatabaseSession]:
    """Open a transaction for an action and its record; a failure is recorded after the rollback."""
    try:
        async with pool.transaction() as session:
            await _record(session, act, AuditOutcome.DONE)
            yield session
    except Exception as error:
        with suppress(StoreUnavailable):  # the failed attempt then stays unrecorded
            await _record(pool, act, AuditOutcome.FAILED, _words(error))
        raise


@asynccontextmanager
async def audited(pool: Pool, act: AuditAct) -> AsyncGenerator[None]:
    """Record an action before it begins, and its outcome when the context ends.

    Raises:
        StoreUnavailable: Postgres is unavailable; the action was not begun.
    """
    number = await _record(pool, act, AuditOutcome.BEGUN)
    try:
        yield
    except Exception as error:
        with suppress(StoreUnavailable):  # the outcome then stays `begun`
            await pool.execute(_SQL["end_act"], number, AuditOutcome.FAILED, _words(error))
        raise
    with suppress(StoreUnavailable):
        await pool.execute(_SQL["end_act"], number, AuditOutcome.DONE, "")


async def list_acts(
    session: DatabaseSession, *, actor: str | None = None, verb: str | None = None, subject: str | None = None,
    since: datetime | None = None, until: datetime | None = None, limit: int = 100,
) -> list[AuditRow]:  # fmt: skip
    """List actions, newest first, filtered by actor, verb, subject and time range."""
    return await session.fetch(AuditRow, _SQL["list_acts"], actor, verb, subject, since, until, limit)


async def prune_acts(session: DatabaseSession, before: datetime) -> int:
    """Delete the actions before a time; return their number."""
    return await session.execute(_SQL["prune_acts"], before)


def _words(error: Exception) -> str:
    if isinstance(error, ExceptionGroup):
        return "; ".join(map(_words, error.exceptions))
    return str(error) or type(error).__name__


async def _record(session: DatabaseSession, act: AuditAct, outcome: AuditOutcome, error: str = "") -> int:
    fields = (act.actor, act.origin, act.verb, act.subject, act.detail, outcome, error)
    return await session.fetch_value(int, _SQL["record_act"], *fields) or 0
