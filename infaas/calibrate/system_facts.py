"""Facts about a running system that a simulation needs: catalogue, limits of the launcher, and numbers of services."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from admin import catalog, scaling
from admin.api import Empty
from infaas.cli.admin_client import AdminClient
from infaas.cli.catalogue import catalogue_of
from infaas.up.state import SystemState, read_state
from process.home import SupervisorCommand, SupervisorUnavailable, send_command
from schemas.rows.catalog import Task
from simulator.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """A running system in the terms of the simulator."""

    catalogue: Catalogue
    """The registry's profiles, with start times and maxima of the launcher where they are known."""
    tasks: Mapping[str, Task]
    selectors: int
    gateways: int
    state: SystemState | None
    """State of a system of `infaas up` on this machine, whose processes are known; None if it runs elsewhere."""


async def read_facts(home: Path, ask: AdminClient) -> SystemFacts:
    """Read the facts.

    Raises:
        OperatorError: no worker runs.
    """
    variants = await ask(catalog.variants, catalog.CatalogRequest())
    rows = await ask(scaling.status, Empty())
    tasks = {task.name: task for task in await ask(catalog.tasks, Empty())}
    made = catalogue_of(variants, [worker for worker in rows.workers if worker.alive and not worker.draining])
    state = read_state(home)
    modules = Counter(one.module for one in state.services.values()) if state else Counter[str]()
    return SystemFacts(
        catalogue=await _with_launcher(home, made),
        tasks=tasks,
        selectors=max(modules["selector"], 1),
        gateways=max(modules["gateway"], 1),
        state=state,
    )


async def _with_launcher(home: Path, catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with the maxima and the start time of the local supervisor, if one runs in `home`."""
    try:
        reply = await send_command(home, SupervisorCommand(verb="list"))
    except SupervisorUnavailable:
        return catalogue
    most = {pool.hardware: pool.maximum for pool in reply.pools}
    hardware = [
        replace(one, maximum=max(most.get(one.name, 0), one.maximum), start_s=reply.start_s or one.start_s)
        for one in catalogue.hardware
    ]
    return replace(catalogue, hardware=tuple(hardware))
