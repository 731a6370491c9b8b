"""The catalog: everything that is registered and usable, as one snapshot in memory, kept current.

The catalog is small (10,000 variants are some 10 MB), so a change reads all of it anew: there is no state to get out of
step. Readers keep the last snapshot while Postgres is away.
"""

import asyncio
import logging
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final

import msgspec

from schemas.rows.catalog import Architecture, Profile, Task, Variant, VariantState
from store.change_listener import REGISTRY, ChangeListener
from store.errors import StoreUnavailable
from store.pool import DatabaseSession, Pool, open_pool
from store.registry import list_architectures, list_profiles, list_tasks, list_variants

_PAUSE_S: Final = 0.05
"""Pause between two reads, so that a registration of many variants does not keep every service reading."""

log = logging.getLogger(__name__)


class Catalog(msgspec.Struct, frozen=True):
    """Consistent snapshot of what is registered; everything by its name, profiles by their variant's."""

    tasks: dict[str, Task] = {}
    architectures: dict[str, Architecture] = {}
    variants: dict[str, Variant] = {}
    """Variants that are ready."""
    profiles: dict[str, Profile] = {}
    """Profile of each of `variants`."""


async def load_catalog(pool: Pool) -> Catalog:
    """Read the whole catalog in one transaction.

    Raises:
        StoreUnavailable: Postgres is away.
    """
    async with pool.snapshot() as session:
        return await _read(session)


async def _read(session: DatabaseSession) -> Catalog:
    return Catalog(
        tasks={row.name: row for row in await list_tasks(session)},
        architectures={row.name: row for row in await list_architectures(session)},
        variants={row.name: row for row in await list_variants(session, state=VariantState.READY)},
        profiles={row.variant: row for row in await list_profiles(session, state=VariantState.READY)},
    )


class CatalogWatcher:
    """Watcher that keeps `current` up to date; an async context manager whose entry waits for the first snapshot.

    Raises:
        StoreUnavailable: on entry, when Postgres cannot be reached. Later outages only delay the next snapshot.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._current = Catalog()
        self._changed = asyncio.Event()
        self._stack = AsyncExitStack()
        self._follower: asyncio.Task[None] | None = None

    @property
    def current(self) -> Catalog:
        """The last snapshot of the catalog."""
        return self._current

    async def changed(self) -> Catalog:
        """Wait for a snapshot that differs from the one on entry or of the last call, and return it. For one caller."""
        await self._changed.wait()
        self._changed.clear()
        return self._current

    async def __aenter__(self) -> "CatalogWatcher":
        async with AsyncExitStack() as stack:
            pool = await stack.enter_async_context(open_pool(self._dsn, max_size=1))
            changes = await stack.enter_async_context(ChangeListener(self._dsn, [REGISTRY]))
            self._current = await load_catalog(pool)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._follower = tasks.create_task(self._follow(pool, changes), name="catalog")
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
            try:
                catalog = await load_catalog(pool)
            except StoreUnavailable as error:
                # It may have been a hiccup of our connection alone, so nobody would wake us again.
                log.warning("keeping the last catalog: %s", error)
                changes.mark_changed(REGISTRY)
                await asyncio.sleep(1.0)
                continue
            if catalog != self._current:
                self._current = catalog
                self._changed.set()
            await asyncio.sleep(_PAUSE_S)
