"""Roles and history of model versions.

A change is one row and notifies `store.shared_connection.REGISTRY`, so selectors apply it within milliseconds.
"""

from collections.abc import Collection, Iterable
from typing import Final

from schemas.rows.audit import AuditAct
from schemas.rows.catalog import Architecture
from schemas.versions import Rollout, VersionComparison, VersionEvent
from store.audit import audited_transaction
from store.errors import StoreConflict
from store.pool import DatabaseSession, Pool, load_queries

_SQL: Final = load_queries("rollouts")


async def list_rollouts(session: DatabaseSession, *, names: Collection[str] | None = None) -> list[Rollout]:
    """List the rollouts of all models with several versions, or of the models of `names`."""
    return await session.fetch(Rollout, _SQL["list_rollouts"], names)


async def get_rollout(session: DatabaseSession, model: str) -> Rollout | None:
    """Return the rollout of a model; None: it has at most one version."""
    return await session.fetch_one(Rollout, _SQL["list_rollouts"], [model])


async def begin_rollout(session: DatabaseSession, model: str, serving: int) -> None:
    """Store the serving version, unless one is stored already."""
    await session.execute(_SQL["begin_rollout"], model, serving)


async def change_rollout(
    pool: Pool, earlier: Rollout, now: Rollout, event: VersionEvent, act: AuditAct | None = None
) -> None:
    """Change the roles of a model's versions, and record the event and the action, in one transaction.

    Raises:
        StoreConflict: another caller changed them after `earlier` was read, or is unregistering a version.
    """
    n = now
    async with audited_transaction(pool, act) if act is not None else pool.transaction() as session:
        named = [version for version in (n.serving, n.candidate) if version is not None]
        if removing := await session.fetch_value(str, _SQL["lock_versions"], n.model, named):
            raise StoreConflict(f"{removing} is being unregistered and answers no more queries")
        row = (n.model, n.serving, n.previous, n.candidate, n.share, n.shadow, earlier.changed_at)
        if not await session.execute(_SQL["change_rollout"], *row):
            raise StoreConflict(f"the versions of {n.model} were changed meanwhile; look again with `infaas history`")
        await add_event(session, event)


async def add_event(session: DatabaseSession, event: VersionEvent) -> None:
    """Record an event of a version."""
    await session.execute(_SQL["add_event"], event.model, event.version, event.kind, event.detail, event.by)


async def list_events(session: DatabaseSession, model: str) -> list[VersionEvent]:
    """List the events of a model's versions, oldest first."""
    return await session.fetch(VersionEvent, _SQL["list_events"], model)


async def add_comparisons(pool: Pool, found: Iterable[VersionComparison]) -> None:
    """Add comparisons to the sums of their versions.

    Raises:
        StoreUnavailable: Postgres is unavailable; nothing was added.
    """
    async with pool.transaction() as session:
        for f in found:
            sums = (f.compared, f.failed, f.agreed, f.compute_s, f.against_compute_s)
            await session.execute(_SQL["add_comparison"], f.model, f.version, f.against, *sums)


async def list_comparisons(session: DatabaseSession, model: str) -> list[VersionComparison]:
    """List the comparisons of a model's versions."""
    return await session.fetch(VersionComparison, _SQL["list_comparisons"], model)


async def list_versions(session: DatabaseSession, model: str) -> list[Architecture]:
    """List the versions of a model, in order."""
    return await session.fetch(Architecture, _SQL["list_versions"], model)
