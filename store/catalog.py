"""Reads the catalog, and keeps it current on changes.

10,000 variants take about 10 MB.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final, TypeVar

from schemas.catalog import Catalog
from schemas.rows.catalog import VariantState
from store.pool import DatabaseSession, Pool
from store.registry import list_architectures, list_profiles, list_tasks, list_variants
from store.rollouts import list_rollouts
from store.shared_connection import REGISTRY, SharedConnection
from store.tenants import list_access, list_tenants
from store.watcher import Watcher

T = TypeVar("T")

_PAUSE_S: Final = 0.05
"""Minimum pause between two reads, so that services do not read continuously during the registration of many
variants."""


async def load_catalog(pool: Pool) -> Catalog:
    """Read the whole catalog in one transaction.

    Raises:
        StoreUnavailable: Postgres is unavailable.
    """
    async with pool.snapshot() as session:
        return await _read(session)


async def _read(session: DatabaseSession) -> Catalog:
    tasks = await list_tasks(session)
    return Catalog(
        tasks={row.name: row for row in tasks if not row.removing},
        architectures={row.name: row for row in await list_architectures(session) if not row.removing},
        variants={row.name: row for row in await list_variants(session, state=VariantState.READY)},
        profiles={row.variant: row for row in await list_profiles(session, state=VariantState.READY)},
        rollouts={row.model: row for row in await list_rollouts(session)},
        access=await list_access(session),
        removing=frozenset(row.name for row in tasks if row.removing),
        tenants={row.name: row for row in await list_tenants(session)},
    )


async def update_catalog(pool: Pool, catalog: Catalog, changed: Iterable[str]) -> Catalog:
    """Read the changed rows, each given as `<table> <name>`, and the rows that they refer to, in one transaction.

    Raises:
        StoreUnavailable: Postgres is unavailable.
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    for one in changed:
        table, _, name = one.partition(" ")
        names[table].add(name)
    variants = names["variants"] | names["profiles"]
    async with pool.snapshot() as session:
        found = await list_variants(session, state=VariantState.READY, names=variants)
        profiles = await list_profiles(session, state=VariantState.READY, names=variants)
        architectures = names["architectures"] | {row.architecture for row in found}
        models = names["rollouts"]
        tasks = names["tasks"] | {row.task for row in found}
        found_tasks = await list_tasks(session, names=tasks)
        found_architectures = await list_architectures(session, names=architectures)
        # The access of a new name must be read together with it: otherwise all tenants could use it until the
        # notification of its access row arrives.
        whose = names["access"] | tasks | {row.model for row in found_architectures}
        access = await list_access(session, names=whose)
        if any(name in catalog.access and name not in access for name in whose):
            return await _read(session)  # deleted with its task or model, whose notification may be pending
        return Catalog(
            tasks=_with(catalog.tasks, tasks, {row.name: row for row in found_tasks if not row.removing}),
            architectures=_with(
                catalog.architectures, architectures, {row.name: row for row in found_architectures if not row.removing}
            ),
            variants=_with(catalog.variants, variants, {row.name: row for row in found}),
            profiles=_with(catalog.profiles, variants, {row.variant: row for row in profiles}),
            rollouts=_with(
                catalog.rollouts, models, {row.model: row for row in await list_rollouts(session, names=models)}
            ),
            access=_with(catalog.access, whose, access),
            removing=(catalog.removing - tasks) | {row.name for row in found_tasks if row.removing},
            tenants=_with(
                catalog.tenants,
                names["tenants"],
                {row.name: row for row in await list_tenants(session, names=names["tenants"])},
            ),
        )


def _with(known: dict[str, T], names: Collection[str], found: dict[str, T]) -> dict[str, T]:
    """Return `known` with the rows of `names` replaced by `found`; the same object if nothing differs."""
    if all(known.get(name) == found.get(name) for name in names):
        return known
    kept = {name: row for name, row in known.items() if name not in names}
    return dict(sorted((kept | found).items()))


class CatalogWatcher(Watcher[Catalog]):
    """Watcher of the whole catalog; `source` is a DSN, or a connection shared with other components."""

    def __init__(self, source: str | SharedConnection) -> None:
        super().__init__(source, REGISTRY, Catalog(), load_catalog, update_catalog, pause_s=_PAUSE_S)
