"""Play of scenarios on a real system: each begins with the system at rest, and ends as the result of a simulation does.

The result's scenario is that of a simulation that begins in the same state.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from admin import scaling
from admin.api import Empty
from infaas.calibrate.fault_infliction import inflict_all
from infaas.calibrate.fleet_watch import alive_workers, serving_instances, watching
from infaas.calibrate.machine_use import MachineUse
from infaas.calibrate.system_facts import SystemFacts
from infaas.calibrate.trace_player import PlayedTrace, TracePlayer
from infaas.cli.admin_client import AdminClient
from infaas.client.transport import Transport
from schemas.rows.cluster import ClusterRows
from schemas.status import SERVING
from schemas.tensors import Array
from simulator.calibration.measured_settings import CpuUse
from simulator.calibration.scenarios import CalibrationScenario
from simulator.scenario import Scenario
from simulator.simulation import SimulationResult

DRAIN_S: Final = 20.0
"""Longest time after the last arrival to wait for answers."""
_REST_S: Final = 5.0
"""Least pause before a run: the load of the last one leaves the observation of the autoscaler."""
_MOST_REST_S: Final = 120.0
_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class RealRun:
    """One run of a scenario on a real system."""

    result: SimulationResult
    """The run in the form of a simulation's result; its scenario holds the state in which the run began."""
    played: PlayedTrace
    use: CpuUse | None
    """Use of this machine; None if the system runs elsewhere."""


class RealSystem:
    """A running system on which scenarios are played.

    Args:
        home: folder of the system, whose workers may be killed if it runs on this machine.
        ask: sends requests of administrators.
        facts: catalogue and services.
        transports: transport to Kafka (false) and to the gateway (true).
        inputs: rows of each task.
        base: settings of the services for the simulations; its trace, catalogue and fleet are replaced.
    """

    def __init__(
        self,
        home: Path,
        ask: AdminClient,
        facts: SystemFacts,
        transports: Mapping[bool, Transport],
        inputs: Mapping[str, Mapping[str, Array]],
        base: Scenario,
    ) -> None:
        self._home = home
        self._ask = ask
        self._facts = facts
        self._transports = transports
        self._inputs = inputs
        self._base = base
        self._prices = {one.name: one.price_per_hour for one in facts.catalogue.hardware}
        self._numbers = {one.name: number for number, one in enumerate(facts.catalogue.variants)}
        self._fewest: int | None = None
        """Least number of workers at rest so far."""

    async def play(self, scenario: CalibrationScenario) -> RealRun:
        """Wait until the system is at rest, and play a scenario.

        Raises:
            ExceptionGroup: a fault cannot be inflicted, or the system does not let this user send the queries.
            InfaasError: the state of the system cannot be read.
        """
        rows = await self._rest()
        player = TracePlayer(scenario.trace, self._inputs, self._numbers, DRAIN_S)
        state = self._facts.state
        use = None if state is None else MachineUse(state.pid)
        began = time.monotonic()  # after the look at all processes, which takes long enough to delay the first queries
        async with watching(self._ask, self._prices, began) as watch, asyncio.TaskGroup() as tasks:
            tasks.create_task(inflict_all(self._home, scenario.faults, began), name="inflict faults")
            playing = tasks.create_task(player.play(self._transports[scenario.via_gateway], began), name="play")
        played, used = playing.result(), None if use is None else use.read()
        result = SimulationResult(
            scenario=self._scenario(scenario, rows),
            queries=played.queries,
            samples=tuple(watch.samples),
            usd=watch.usd(scenario.trace.duration_s),
            changes=watch.changes,
            events=0,
            wall_s=time.monotonic() - began,
        )
        return RealRun(result, played, used)

    def _scenario(self, scenario: CalibrationScenario, rows: ClusterRows) -> Scenario:
        """Return the scenario of a simulation that begins as the real run did."""
        return replace(
            self._base,
            trace=scenario.trace,
            catalogue=self._facts.catalogue,
            fleet=dict(alive_workers(rows)),
            placed=serving_instances(rows),
            placed_batch={row.variant: row.max_batch for row in rows.instances},
            gateways=max(self._base.gateways, 1) if scenario.via_gateway else 0,
            faults=scenario.faults,
            drain_s=DRAIN_S,
        )

    async def _rest(self) -> ClusterRows:
        """Wait until nothing starts, loads or ends, and no more workers run than before other runs; return the rows."""
        began = time.monotonic()
        await asyncio.sleep(_REST_S)
        while True:
            rows = await self._ask(scaling.status, Empty())
            workers = alive_workers(rows).total()
            rested = _is_settled(rows) and workers <= (self._fewest or workers)
            if rested or time.monotonic() - began > _MOST_REST_S:
                self._fewest = min(workers, self._fewest or workers)
                return rows
            await asyncio.sleep(_LOOK_S)


def _is_settled(rows: ClusterRows) -> bool:
    """Return true if all that is wanted serves, and nothing else runs."""
    workers = alive_workers(rows)
    wanted = {row.hardware: row.count for row in rows.wanted}
    return (
        all(row.state in SERVING for row in rows.instances)
        and not any(worker.alive and worker.draining for worker in rows.workers)
        and all(workers[name] == count for name, count in wanted.items())
    )
