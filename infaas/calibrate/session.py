"""The real part of a calibration: from the catalogue of a running system to the runs of all scenarios."""

import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from infaas.calibrate.calibration import Progress, RealRuns, play_all
from infaas.calibrate.real_system import RealSystem
from infaas.calibrate.sample_inputs import sample_inputs
from infaas.calibrate.service_settings import system_settings
from infaas.calibrate.system_facts import SystemFacts, read_facts
from infaas.cli.admin_client import AdminClient, asking
from infaas.cli.connect import find_gateway, find_kafka
from infaas.client.client import SystemOptions, transport_to
from schemas.errors import OperatorError
from simulator.calibration.scenarios import CalibrationScenario, calibration_scenarios, probe_scenario
from simulator.calibration.task_load import TaskLoad, task_loads
from simulator.scenario import Scenario
from simulator.scenario_file import ScenarioFile
from simulator.trace import Trace

if TYPE_CHECKING:
    from infaas.client.transport import Transport

PROBE_S: Final = 20.0
_MOST_IN_FLIGHT: Final = 20_000
_NOT_LOCAL: Final = "the system's processes do not run on this machine, so no worker can be killed"
_TRACE: Final = "trace"
"""Name of the scenario of a given trace."""


class CalibrationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Scenarios to calibrate with, and settings of the system."""

    scenarios: tuple[str, ...] = ()
    """Names of the scenarios; empty: all."""
    trace: Trace | None = None
    """Trace to play in place of the scenarios."""
    tasks: tuple[str, ...] = ()
    """Tasks to query; empty: all."""
    seconds: float = 40.0
    """Duration of each scenario."""
    probe_s: float = PROBE_S
    """Duration of the probe."""
    repeats: int = 2
    """Real runs of each scenario; the difference between two is the noise."""
    inputs: Mapping[str, Path] = {}
    """Files of inputs, by task."""
    settings: Mapping[str, Any] = {}
    """Fields of the simulated scenarios by path, e.g. `scaling.limits.headroom`; they replace the read ones."""


async def play(home: Path, request: CalibrationRequest, progress: Progress) -> RealRuns:
    """Play the scenarios on the system that runs in `home`, or that the environment names.

    Raises:
        InfaasError: the system cannot be reached, or a scenario cannot be played on it; perhaps in a group.
    """
    async with asking(home) as ask:
        facts = await read_facts(home, ask)
        services = system_settings(facts.state, request.settings)
        facts = dataclasses.replace(facts, catalogue=services.bounded(facts.catalogue))
        loads = task_loads(facts.catalogue, facts.fleet, request.tasks)
        scenarios, skipped = _scenarios(request, loads, facts)
        probe = probe_scenario(loads, request.probe_s)
        async with _real_system(home, ask, facts, services, request.inputs, [probe, *scenarios]) as system:
            probed, runs = await play_all(system, probe, scenarios, request.repeats, progress)
    return RealRuns(probe=probed, scenarios=scenarios, runs=runs, skipped=skipped)


def _scenarios(
    request: CalibrationRequest, loads: Sequence[TaskLoad], facts: SystemFacts
) -> tuple[list[CalibrationScenario], dict[str, str]]:
    """Return the scenarios that can be played, and the reasons why others cannot."""
    if request.trace is not None:
        return [CalibrationScenario(name=_TRACE, about="the given trace", trace=request.trace)], {}
    growth = sum(one.maximum for one in facts.catalogue.hardware) / max(sum(facts.fleet.values()), 1)
    known = {one.name: one for one in calibration_scenarios(loads, max(growth, 1.0), request.seconds)}
    if unknown := sorted(set(request.scenarios) - known.keys()):
        raise OperatorError(f"there is no scenario {unknown[0]!r}; known: {', '.join(known)}")
    wanted = [known[name] for name in request.scenarios or known]
    skipped = {one.name: _NOT_LOCAL for one in wanted if one.faults and facts.state is None}
    return [one for one in wanted if one.name not in skipped], skipped


@asynccontextmanager
async def _real_system(
    home: Path,
    ask: AdminClient,
    facts: SystemFacts,
    services: ScenarioFile,
    files: Mapping[str, Path],
    scenarios: Sequence[CalibrationScenario],
) -> AsyncGenerator[RealSystem]:
    largest: dict[str, int] = {}
    for kind in (kind for one in scenarios for kind in one.trace.kinds):
        largest[kind.task] = max(largest.get(kind.task, 1), kind.batch)
    if unknown := sorted(largest.keys() - facts.tasks.keys()):
        raise OperatorError(f"the system has no task {unknown[0]!r}; `infaas tasks` lists its tasks")
    inputs = {task: sample_inputs(facts.tasks[task], files, most) for task, most in largest.items()}
    base = Scenario(**services.settings(), trace=scenarios[0].trace, catalogue=facts.catalogue)
    async with AsyncExitStack() as stack:
        transports: dict[bool, Transport] = {}
        for via_gateway in {one.via_gateway for one in scenarios}:
            transport = transport_to(_address(home, via_gateway=via_gateway))
            transports[via_gateway] = await stack.enter_async_context(transport)
        yield RealSystem(home, ask, facts, transports, inputs, base)


def _address(home: Path, *, via_gateway: bool) -> SystemOptions:
    if via_gateway:
        return {"gateway": find_gateway(home), "max_in_flight": _MOST_IN_FLIGHT}
    return {"kafka": find_kafka(home), "max_in_flight": _MOST_IN_FLIGHT}
