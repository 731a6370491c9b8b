"""Facts about a running system that a simulation needs: catalogue, limits of the launcher, and workers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from admin import catalog, scaling
from admin.api import Empty
from infaas.calibrate.fleet_watch import alive_workers
from infaas.cli.admin_client import AdminClient
from infaas.cli.catalogue import catalogue_of
from infaas.cli.connect import gateway_url
from infaas.up.state import SystemState, read_state
from process.home import SupervisorCommand, SupervisorUnavailable, send_command
from schemas.rows.catalog import Task
from simulator.catalogue import Catalogue


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFacts:
    """A running system in the terms of the simulator."""

    catalogue: Catalogue
    """The registry's profiles, with the start time and the maxima of the launcher if it is known."""
    tasks: Mapping[str, Task]
    fleet: Mapping[str, int]
    """Living workers by hardware."""
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
    state = state_here(home)
    return SystemFacts(
        catalogue=made if state is None else await _with_launcher(home, made),
        tasks=tasks,
        fleet=alive_workers(rows),
        state=state,
    )


def state_here(home: Path) -> SystemState | None:
    """Return the state of the system in `home`; None if none runs there, or `INFAAS_URL` names another system."""
    state = read_state(home)
    return state if state is not None and gateway_url() in ("", state.gateway) else None


async def _with_launcher(home: Path, catalogue: Catalogue) -> Catalogue:
    """Return the catalogue with the maxima and the start time of the supervisor in `home`, if it answers."""
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
