"""Placement follower: starts and ends instances according to the rows of `instances`.

A change notification wakes it. It then reads all rows of the worker and passes each to its controller. During an outage
of Postgres the running instances continue. A row that comes back while its instance drains starts a new instance once
the old one has ended. Lease notifications wake the instances that wait for a lease.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from schemas.rows.cluster import InstanceRow
from store.errors import StoreUnavailable
from store.placement import list_instances
from store.shared_connection import LEASES, PLACEMENT, ChangeListener, SharedConnection
from workers.instance_controller import InstanceController

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


class PlacementFollower:
    """Follower that keeps the instance controllers of one worker in line with its rows."""

    def __init__(
        self, database: SharedConnection, worker: str, make_controller: Callable[[InstanceRow], InstanceController]
    ) -> None:
        self._database = database
        self._worker = worker
        self._make_controller = make_controller
        self._rows: dict[str, InstanceRow] = {}
        self._controllers: dict[str, InstanceController] = {}

    @property
    def controllers(self) -> Iterable[InstanceController]:
        """Controllers of all instances that load, serve or drain here."""
        return self._controllers.values()

    def lose_leases(self, variant: str, partitions: set[int]) -> None:
        """Stop serving these partitions of a variant, because another worker took their leases."""
        controller = self._controllers.get(variant)
        if controller is not None:
            controller.lose_leases(partitions)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the rows until `stop` is set, then end every instance. Returns when all have drained."""
        async with ChangeListener(self._database, [PLACEMENT, LEASES]) as changes, asyncio.TaskGroup() as tasks:
            following = tasks.create_task(self._follow(changes, tasks), name="follow placement")
            await stop.wait()
            following.cancel()
            self._rows.clear()
            for controller in self._controllers.values():
                controller.shut_down()

    async def _follow(self, changes: ChangeListener, tasks: asyncio.TaskGroup) -> None:
        async for channel in changes:
            if channel == LEASES:
                for controller in self._controllers.values():
                    controller.recheck_leases()
                continue
            try:
                rows = await list_instances(self._database, worker=self._worker)
            except StoreUnavailable as error:
                log.warning("placement unknown, keeping running instances: %s", error)
                changes.mark_changed(PLACEMENT)
                await asyncio.sleep(_AGAIN_S)
                continue
            self._rows = {row.variant: row for row in rows}
            self._apply(tasks)

    def _apply(self, tasks: asyncio.TaskGroup) -> None:
        for variant, controller in self._controllers.items():
            controller.update_row(self._rows.get(variant))
        for variant, row in self._rows.items():
            if variant not in self._controllers:
                self._controllers[variant] = controller = self._make_controller(row)
                tasks.create_task(self._run(controller, tasks), name=f"instance {variant}")

    async def _run(self, controller: InstanceController, tasks: asyncio.TaskGroup) -> None:
        try:
            await controller.run()
        finally:
            del self._controllers[controller.variant]
        self._apply(tasks)
