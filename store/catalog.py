"""The catalog: everything that is registered and usable, as one snapshot in memory, kept current.

10,000 variants are some 10 MB.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Final, TypeVar

import msgspec

from schemas.access import Access
from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from schemas.rows.rollout import Rollout
from schemas.rows.tenants import Tenant
from store.access import list_access
from store.change_listener import REGISTRY
from store.pool import DatabaseSession, Pool
from store.registry import list_architectures, list_profiles, list_tasks, list_variants
from store.rollouts import list_rollouts
from store.shared_connection import SharedConnection
from store.tenants import list_tenants
from store.watcher import Watcher

T = TypeVar("T")

_PAUSE_S: Final = 0.05
"""Pause between two reads, so that a registration of many variants does not keep every service reading."""


class Catalog(msgspec.Struct, frozen=True):
    """Consistent snapshot of what is registered; everything by its name, profiles by their variant's."""

    tasks: dict[str, Task] = {}
    architectures: dict[str, Architecture] = {}
    variants: dict[str, Variant] = {}
    """Variants that are ready."""
    profiles: dict[str, Profile] = {}
    """Profile of each of `variants`."""
    rollouts: dict[str, Rollout] = {}
    """By model, of those that have several versions."""
    access: dict[str, Access] = {}
    """Whose tasks and models are and who may use them; what is not in here is public and nobody's."""
    removing: frozenset[str] = frozenset()
    """Names of tasks that are being unregistered, which are none of `tasks`: whoever asks them is still to be told."""
    tenants: dict[str, Tenant] = {}
    """Tenants with topics of their own, those that are being removed among them: what these asked is answered."""


async def load_catalog(pool: Pool) -> Catalog:
    """Read the whole catalog in one transaction.

    Raises:
        StoreUnavailable: Postgres is away.
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
    """Read what changed, each said as `<table> <name>`, and what that belongs to, in one transaction.

    Raises:
        StoreUnavailable: Postgres is away.
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
        # Whose something is, is known with it, or everybody might use it until the rest of what was said arrives.
        whose = names["access"] | tasks | {row.model for row in found_architectures}
        access = await list_access(session, names=whose)
        if any(name in catalog.access and name not in access for name in whose):
            return await _read(session)  # it is gone with what it was of, of which nothing may have been said yet
        return Catalog(
            tasks=_with(catalog.tasks, tasks, {row.name: row for row in found_tasks if not row.removing}),
            architectures=_with(
                catalog.architectures,
                architectures,
                {row.name: row for row in found_architectures if not row.removing},
            ),
            variants=_with(catalog.variants, variants, {row.name: row for row in found}),
            profiles=_with(catalog.profiles, variants, {row.variant: row for row in profiles}),
            rollouts=_with(
                catalog.rollouts,
                models,
                {row.model: row for row in await list_rollouts(session, names=models)},
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
    """What is known, with what was found in the place of what has these names; as it is if that is the same."""
    if all(known.get(name) == found.get(name) for name in names):
        return known
    kept = {name: row for name, row in known.items() if name not in names}
    return dict(sorted((kept | found).items()))


class CatalogWatcher(Watcher[Catalog]):
    """Watcher of the whole catalog; `source` is a DSN, or the connection that it shares with others."""

    def __init__(self, source: str | SharedConnection) -> None:
        super().__init__(source, REGISTRY, Catalog(), load_catalog, update_catalog, pause_s=_PAUSE_S)
