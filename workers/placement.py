"""Makes what runs here what the rows of `instances` ask for.

A change of the rows wakes it; it reads all rows of the worker and tells each hosting its own. While Postgres is away
what runs goes on. A row that comes back while its instance still drains starts a new one when the old one has ended.
A lease that is let go or asked for wakes those that wait for one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from schemas.rows.placement import InstanceRow
from store.change_listener import LEASES, PLACEMENT, ChangeListener
from store.errors import StoreUnavailable
from store.placement import list_instances
from store.pool import Pool
from workers.instance_controller import InstanceController

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


class PlacementFollower:
    """All hostings of a worker."""

    def __init__(self, pool: Pool, dsn: str, worker: str, host: Callable[[InstanceRow], InstanceController]) -> None:
        self._pool = pool
        self._dsn = dsn
        self._worker = worker
        self._host = host
        self._rows: dict[str, InstanceRow] = {}
        self._hostings: dict[str, InstanceController] = {}

    @property
    def hostings(self) -> Iterable[InstanceController]:
        """What runs here, loads or drains."""
        return self._hostings.values()

    def lose(self, variant: str, partitions: set[int]) -> None:
        """Another worker took the leases of these partitions."""
        hosting = self._hostings.get(variant)
        if hosting is not None:
            hosting.lose(partitions)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the rows until `stop` is set, then end every instance; returns when all have drained."""
        async with ChangeListener(self._dsn, [PLACEMENT, LEASES]) as changes, asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(changes, tasks), name="follow placement")
            await stop.wait()
            following.cancel()
            self._rows.clear()
            for hosting in self._hostings.values():
                hosting.leave()

    async def _follow(self, changes: ChangeListener, tasks: asyncio.TaskGroup) -> None:
        async for channel in changes:
            if channel == LEASES:
                for hosting in self._hostings.values():
                    hosting.recheck_leases()
                continue
            try:
                rows = await list_instances(self._pool, worker=self._worker)
            except StoreUnavailable as error:
                log.warning("keeping what runs: %s", error)
                changes.mark_changed(PLACEMENT)
                await asyncio.sleep(_AGAIN_S)
                continue
            self._rows = {row.variant: row for row in rows}
            self._apply(tasks)

    def _apply(self, tasks: asyncio.TaskGroup) -> None:
        for variant, hosting in self._hostings.items():
            hosting.want(self._rows.get(variant))
        for variant, row in self._rows.items():
            if variant not in self._hostings:
                self._hostings[variant] = hosting = self._host(row)
                tasks.create_task(self._run(hosting, tasks), name=f"host {variant}")

    async def _run(self, hosting: InstanceController, tasks: asyncio.TaskGroup) -> None:
        try:
            await hosting.run()
        finally:
            del self._hostings[hosting.variant]
        self._apply(tasks)
