"""Fleets compared under loads: autoscaled, with and without kills, and fixed ones; each beside its simulation.

A fixed fleet is sized for the mean or for the peak of the load; the placement of its instances is decided as in the
autoscaled one. The simulation gets the same trace, the profiles of the system's registry, and the measured start time
of a worker.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Final

import msgspec
from msgspec.structs import replace

from autoscaler.decide.snapshot import ScalingLimits
from bench.core.figures import Figure, beside, exactly, percentile, plain
from bench.core.system import SystemUnderTest, infaas, running_at
from bench.plots import plot_runs
from bench.scale.loads import all_kinds, azure_code, peaks_in_turn
from bench.scale.traffic import QuerySample, load, steady
from bench.scale.watching import ScaleLog, watching
from process.home import SupervisorCommand, send_command
from simulator.catalogue import Catalogue
from simulator.scenario import FaultKind, InflictedFault, Scaling, Scenario
from simulator.simulation import simulate
from simulator.summary import Summary, summarize
from simulator.trace import Trace

_WARM_PER_S: Final = 10.0
_WARM_S: Final = 10.0
_CALM: Final = 0.01
"""Largest share of violations at which the warm-up ends."""
_TAKEOVER_S: Final = 2.0
"""Seconds until another autoscaler leads, in the simulation."""
_DELAY_S: Final = 15.0
"""Delay of the removal of a worker, half of the default, because the peaks follow each other within a minute or two."""


class FleetConfig(msgspec.Struct, frozen=True):
    """Fleet to compare."""

    name: str
    workers: int
    maximum: int
    killed: bool = False
    """True if processes are killed at the middle peak; the fleet gets no other load."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of `infaas up`."""
        workers = f"--workers={self.workers}", f"--max-workers={self.maximum}"
        return *workers, "--autoscalers=2", "--cores-per-worker=1", "--oversubscribe"


_AUTOSCALED: Final = FleetConfig("autoscaled", 1, 2)
_KILLED: Final = FleetConfig("autoscaled, 2 SIGKILLs", 1, 2, killed=True)
_FOR_PEAK: Final = FleetConfig("sized for the peak", 2, 2)
_FOR_MEAN: Final = FleetConfig("sized for the mean", 1, 1)
FLEETS: Final = (_AUTOSCALED, _KILLED, _FOR_PEAK, _FOR_MEAN)


class LoadConfig(msgspec.Struct, frozen=True):
    """Load under which the fleets are compared."""

    name: str
    trace: Callable[[Catalogue, float], Trace]
    """Makes the load of a length in seconds with rates for the profiles of a catalogue."""
    plot: str
    """Name of the plot's file."""
    share: float
    """Its length as a share of the first one's."""


_PEAKS: Final = LoadConfig("peaks in turn", peaks_in_turn, "steps.svg", 1.0)
_AZURE: Final = LoadConfig("Azure code x10", azure_code, "trace.svg", 0.3)


class FleetRun(msgspec.Struct, frozen=True):
    """Run of one fleet under a load."""

    load: LoadConfig
    fleet: FleetConfig
    trace: Trace
    catalogue: Catalogue
    samples: list[QuerySample]
    repeated: int
    log: ScaleLog

    def share(self, *outcomes: str) -> float:
        """Return the share of the queries with one of these outcomes."""
        return sum(sample.outcome in outcomes for sample in self.samples) / len(self.samples)

    def latency_ms(self, share: float) -> float:
        """Return a percentile of the answers' latency."""
        return percentile([sample.total_ms for sample in self.samples if sample.status == "ok"], share)

    @property
    def accuracy(self) -> float:
        """Mean accuracy of the answers in time, weighted by inputs."""
        given = [(s.kind.batch, s.accuracy) for s in self.samples if not s.violated]
        return fmean([accuracy for _, accuracy in given], [batch for batch, _ in given])

    @property
    def worker_seconds(self) -> float:
        """Sum of all workers' seconds during the load."""
        return self.log.worker_seconds(self.trace.duration_s)

    def simulated(self) -> Summary:
        """Return the figures of a simulation of this run."""
        fleet, middle_s = self.fleet, self.trace.duration_s / 2
        faults = (
            InflictedFault(kind=FaultKind.AUTOSCALER_STOPS, at_s=_kill_times(middle_s)[0], seconds=_TAKEOVER_S),
            InflictedFault(kind=FaultKind.WORKER_DIES, at_s=_kill_times(middle_s)[1]),
        )
        scenario = Scenario(
            trace=self.trace,
            catalogue=self.catalogue,
            fleet={"cpu": fleet.workers},
            scaling=Scaling(min_workers={"cpu": fleet.workers}, limits=ScalingLimits(downscale_delay_s=_DELAY_S)),
            faults=faults if fleet.killed else (),
        )
        return summarize(simulate(scenario))


async def measure(home: Path, broker: str, seconds: float, plots: Path) -> list[Figure]:
    """Run the fleets one after another in `home`, with its registered models; writes the plots."""
    runs = [run for fleet in FLEETS for run in await run_fleet(home, broker, fleet, seconds)]
    return compare(runs, broker, plots)


def compare(runs: Sequence[FleetRun], broker: str, plots: Path) -> list[Figure]:
    """Simulate the runs, write the plots, and return the figures."""
    figures: list[Figure] = []
    for wanted in (_PEAKS, _AZURE):
        of_load = {run.fleet: run for run in runs if run.load == wanted}
        plot_runs([(run.fleet.name, run.samples, run.log) for run in of_load.values()], plots / wanted.plot)
        figures += [figure for run in of_load.values() for figure in _fleet_figures(run, broker)]
        figures += _figures(of_load, wanted.name, broker)
    return figures


async def run_fleet(home: Path, broker: str, fleet: FleetConfig, seconds: float) -> list[FleetRun]:
    """Run one fleet under its loads, one after the other."""
    env = {"INFAAS_AUTOSCALER_DOWNSCALE_DELAY_S": str(_DELAY_S)}
    async with running_at(home, broker, flags=fleet.flags, env=env) as system:
        catalogue = await _catalogue(system, fleet)
        await _warm_up(system)
        loads = (_PEAKS,) if fleet.killed else (_PEAKS, _AZURE)
        return [await _run(system, wanted, fleet, catalogue, seconds * wanted.share) for wanted in loads]


async def _run(
    system: SystemUnderTest, wanted: LoadConfig, fleet: FleetConfig, catalogue: Catalogue, seconds: float
) -> FleetRun:
    trace = wanted.trace(catalogue, seconds)
    async with watching(system.postgres) as log, asyncio.TaskGroup() as tasks:
        if fleet.killed:
            tasks.create_task(_kill(system, trace.duration_s / 2), name="kill")
        found = await load(system.kafka, trace)
    started_s = (await send_command(system.home, SupervisorCommand(verb="list"))).start_s
    hardware = replace(catalogue.hardware[0], start_s=started_s)
    known = replace(catalogue, hardware=(hardware,))
    return FleetRun(wanted, fleet, trace, known, found.samples, found.repeated, log)


async def _catalogue(system: SystemUnderTest, fleet: FleetConfig) -> Catalogue:
    """Return the catalogue of the system's registry, with the fleet's maximum of workers."""
    found = msgspec.json.decode(await infaas(system.home, "catalogue", "export"), type=Catalogue)
    return found.bounded({one.name: fleet.maximum for one in found.hardware})


async def _warm_up(system: SystemUnderTest) -> None:
    """Run a small load until the required variants are loaded and the JVM has compiled."""
    async with asyncio.timeout(120):
        while True:
            samples = (await load(system.kafka, steady(all_kinds(), _WARM_PER_S, _WARM_S))).samples
            settled = samples[len(samples) // 2 :]
            if sum(sample.violated for sample in settled) <= _CALM * len(settled):
                return


def _kill_times(middle_s: float) -> tuple[float, float]:
    """Return the seconds at which the leading autoscaler and a worker are killed: around the middle peak."""
    return middle_s - 5.0, middle_s + 1.0


async def _kill(system: SystemUnderTest, middle_s: float) -> None:
    """Kill the leading autoscaler and a worker."""
    first_s, second_s = _kill_times(middle_s)
    await asyncio.sleep(first_s)
    os.kill(await system.leading_autoscaler(), signal.SIGKILL)
    await asyncio.sleep(second_s - first_s)
    os.kill(await system.pid_of("worker"), signal.SIGKILL)


def _fleet_figures(run: FleetRun, broker: str) -> list[Figure]:
    """Return the figures of a run, each beside the simulated one."""
    simulated, count = run.simulated(), len(run.samples)
    worker_seconds = sum(simulated.workers.values()) * simulated.seconds
    late = (simulated.late + simulated.expired) / count
    return [
        beside(f"{run.load.name}, {run.fleet.name}: {metric}", broker, value, unit, expected)
        for metric, value, unit, expected in (
            ("queries", count, "", simulated.queries),
            ("refused", run.share("refused") * 100, "%", simulated.refused / count * 100),
            ("late", run.share("late") * 100, "%", late * 100),
            ("violations", (1 - run.share("answered")) * 100, "%", simulated.violations * 100),
            ("accuracy", run.accuracy * 100, "%", simulated.accuracy * 100),
            ("cost", run.worker_seconds, "worker-s", worker_seconds),
            ("p50", run.latency_ms(0.5), "ms", simulated.p50_ms),
            ("p99", run.latency_ms(0.99), "ms", simulated.p99_ms),
        )
    ]


def _figures(runs: Mapping[FleetConfig, FleetRun], name: str, broker: str) -> list[Figure]:
    """Return the figures that compare the fleets, and the counts that must be 0."""
    scaled, peak, mean = runs[_AUTOSCALED], runs[_FOR_PEAK], runs[_FOR_MEAN]
    samples = [sample for run in runs.values() for sample in run.samples]
    return [
        beside(f"{name}: violations, autoscaled over sized for the mean", broker, (1 - scaled.share("answered")) * 100,
               "%", (1 - mean.share("answered")) * 100),
        beside(f"{name}: cost, autoscaled over sized for the peak", broker, scaled.worker_seconds, "worker-s",
               peak.worker_seconds),
        plain(f"{name}: changes of scale", broker, len(scaled.log.changes_s())),
        exactly(f"{name}: queries lost", broker, sum(s.outcome == "lost" for s in samples)),
        exactly(f"{name}: answers shown twice", broker, sum(s.shown > 1 for s in samples)),
        plain(f"{name}: second results dropped by id", broker, sum(run.repeated for run in runs.values())),
    ]  # fmt: skip
