"""Removals: requested at a gateway and executed by any gateway (`claims`); rows are marked first and deleted last.

The executing gateway renews its claim every second. After `STALE_S` without a renewal, another gateway claims the
removal; a removal can be continued from any step. A change of state notifies `store.shared_connection.REMOVALS`.

Rows of a removed name are marked, so that nothing chooses them. A mark is never cleared, only deleted with its row.
While it exists, the tables refuse registrations under the name.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from schemas.access import Principal
from schemas.rows.removals import RegisteredNames, RemovalReport, RemovalRequest, RemovalRow, RemovalState
from store.claims import Claim, Claims
from store.errors import StoreConflict
from store.placement import ALIVE_S
from store.pool import DatabaseSession, Pool, load_queries

STALE_S: Final = 10.0
"""Seconds without a renewal after which the executing gateway counts as dead."""

_SQL: Final = load_queries("removals")
_FREE_NAMES: Final = load_queries("registry")["free_names"]
REMOVAL_CLAIMS: Final = Claims("removals", RemovalRow, _SQL)
COMPARED: Final = "models are compared with it"
"""Reason under which `list_uses` lists the tasks whose models are verified against these names."""


async def put_removal(
    session: DatabaseSession, request: RemovalRequest, principal: Principal, actor: str, origin: str
) -> RemovalRow:
    """Store a requested removal, or return the open one of the same name and actor."""
    row = await session.fetch_one(RemovalRow, _SQL["put_removal"], request.name, request, principal, actor, origin)
    if row is None:
        raise StoreConflict(f"the removal of {request.name} was not stored")
    return row


async def get_removal(session: DatabaseSession, number: int) -> RemovalRow | None:
    """Return a removal, or None."""
    return await session.fetch_one(RemovalRow, _SQL["get_removal"], number)


async def any_running(session: DatabaseSession) -> bool:
    """Return true if a removal is marked as running, also if its gateway is dead."""
    return bool(await session.fetch_value(int, _SQL["count_running"]))


async def end_removal(
    session: DatabaseSession, claim: Claim, report: RemovalReport | None = None, error: str = ""
) -> None:
    """Store the outcome of a removal, failed if there is an `error`, unless another gateway has claimed it."""
    state = RemovalState.FAILED if error else RemovalState.DONE
    await REMOVAL_CLAIMS.complete(session, claim, state, error, report)


async def mark_removing(session: DatabaseSession, names: RegisteredNames) -> None:
    """Mark the names for removal, with everything registered for them meanwhile; call it in a transaction."""
    await session.execute(_SQL["mark_task"], names.task)
    await session.execute(_SQL["mark_architectures"], names.architectures, names.task)
    await session.execute(_SQL["mark_variants"], names.variants, names.architectures, names.task)
    await session.execute(_SQL["withdraw_versions"])


async def delete_instances(session: DatabaseSession, variants: Collection[str]) -> int:
    """Delete the wanted instances of variants, so that workers drain and unload them; return their number."""
    return await session.execute(_SQL["delete_instances"], list(variants))


async def count_held_partitions(session: DatabaseSession, variants: Collection[str]) -> int:
    """Return the number of partitions of variants that workers still serve."""
    return await session.fetch_value(int, _SQL["held_partitions"], list(variants)) or 0


async def lock_catalog(session: DatabaseSession) -> None:
    """Block registrations of files until the transaction ends."""
    await session.execute(_SQL["lock_catalog"])


async def delete_builds(session: DatabaseSession, names: RegisteredNames, files: Collection[str]) -> set[str]:
    """Delete the builds of names and of files; return the SHA-256 of their files that no other build names."""
    asked = (names.task, names.architectures, list(files))
    gone = await session.fetch_values(str, _SQL["delete_builds"], *asked)
    return set(gone).difference(await session.fetch_values(str, _SQL["files_of_builds"]))


async def count_queries(session: DatabaseSession, names: RegisteredNames, since: datetime) -> int:
    """Return the number of queries since a time that requested these names or were answered by them."""
    asked = (since, names.task, names.architectures, names.variants)
    return await session.fetch_value(int, _SQL["queries_since"], *asked) or 0


async def list_uses(session: DatabaseSession, names: RegisteredNames) -> dict[str, list[str]]:
    """List the uses of these names by reason, as text: instances, pins, jobs, and tasks verified against them."""
    asked = {
        "it runs": (_SQL["instances_of"], names.variants, ALIVE_S),
        "it is pinned": (_SQL["pins_of"], names.task, names.variants),
        "jobs wait for it": (_SQL["jobs_of"], names.task, names.architectures, names.variants),
        COMPARED: (_SQL["references_of"], names.task, names.variants),
    }
    return {why: await session.fetch_values(str, query, *args) for why, (query, *args) in asked.items()}


async def list_serving(session: DatabaseSession, names: RegisteredNames) -> list[str]:
    """List the models that would lose their serving version but keep others."""
    return await session.fetch_values(str, _SQL["serving_versions"], names.architectures)


async def delete_registered(pool: Pool, names: RegisteredNames, topics: Collection[str]) -> None:
    """Delete all rows of these names, and the samples of them and of their topics, in one transaction."""
    async with pool.transaction() as session:
        await session.execute(_SQL["delete_variants"], names.variants)
        await session.execute(_SQL["delete_architectures"], names.architectures)
        await session.execute(_SQL["delete_task"], names.task)
        # Last: deleting the variants waits for a plan that is being written, whose decisions go, too.
        observed = (names.task, names.architectures, names.variants, list(topics))
        await session.execute(_SQL["delete_samples"], *observed)
        await session.execute(_FREE_NAMES, [*names.architectures, *filter(None, (names.task,))])
