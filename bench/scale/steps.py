"""Load in steps up to eightfold and down again on two tasks: the autoscaled fleet against two fixed ones.

The zoo's queries are made heavy, so that computation dominates the overhead: with their number of inputs and required
accuracy, the cheapest suitable variant takes tens of milliseconds. Rates derive from the profiles measured on this
machine: at the peak both tasks together need `_PEAK_CORES` cores. A worker computes one batch at a time, so one worker
(sized for the mean) just fails to serve the peak in time, and two succeed. They share the machine's cores with Kafka,
Postgres, the selector and the load itself, so the peak cannot be higher.

The autoscaled run is repeated with the leading autoscaler and a worker killed by SIGKILL at the highest load.
"""

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from bench.core.figures import Figure, beside, exactly, percentile, plain, within
from bench.core.system import SystemUnderTest, running_at
from bench.plots import plot_runs
from bench.scale.traffic import QuerySample, TaskStream, load
from bench.scale.watching import ScaleLog, watching
from schemas.latency import LatencyModel
from store.catalog import load_catalog
from store.pool import open_pool
from zoo.samples import labelled

FACTORS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1)
TASKS: Final = ("mnist", "sentiment")
_PEAK_CORES: Final = 0.9
_SHARES: Final = {"mnist": 0.25, "sentiment": 0.75}
"""Share of each task in the load's compute time."""
_INPUTS: Final = {"mnist": 64, "sentiment": 8}
_MIN_ACCURACY: Final = {"mnist": 0.985, "sentiment": 0.86}
_LATENCY_MS: Final = 300.0
_NEAR_S: Final = 2
"""Seconds after a change that count as near it, besides the second before."""
_CALM: Final = 0.01
"""Largest share of violated queries in a second that counts as recovered."""
_LIMIT: Final = 1.5


class FleetConfig(msgspec.Struct, frozen=True):
    """Fleet to compare, with its start flags."""

    name: str
    flags: tuple[str, ...]
    killed: bool = False
    """True if processes are killed at the highest load."""


_CORES: Final = ("--cores-per-worker", "1", "--oversubscribe")
_AUTOSCALED: Final = ("--workers=1", "--max-workers=2", "--autoscalers=2", *_CORES)
FLEETS: Final = (
    FleetConfig("autoscaled", _AUTOSCALED),
    FleetConfig("autoscaled, 2 SIGKILLs", _AUTOSCALED, killed=True),
    FleetConfig("sized for the peak", ("--workers=2", *_CORES)),
    FleetConfig("sized for the mean", ("--workers=1", *_CORES)),
)


class FleetRun(msgspec.Struct, frozen=True):
    """Run of one fleet under the load."""

    fleet: str
    samples: list[QuerySample]
    repeated: int
    log: ScaleLog
    step_s: float

    @property
    def violations(self) -> float:
        """Share of the queries that were refused, late or lost, 0..1."""
        return sum(sample.violated for sample in self.samples) / len(self.samples)

    def latency_ms(self, share: float) -> float:
        """Return a percentile of the answers' total latency."""
        return percentile([sample.total_ms for sample in self.samples if sample.status == "ok"], share)

    @property
    def lost(self) -> int:
        """Number of queries without any answer."""
        return sum(sample.status == "lost" for sample in self.samples)

    @property
    def worker_seconds(self) -> float:
        """Sum of all workers' seconds during the load."""
        return self.log.worker_seconds(len(FACTORS) * self.step_s)

    def recovery_s(self) -> list[float]:
        """Return, for each step of the load, the seconds until violations were rare for the rest of the step."""
        asked, violated = defaultdict[int, int](int), defaultdict[int, int](int)
        for sample in self.samples:
            asked[int(sample.sent_s)] += 1
            violated[int(sample.sent_s)] += sample.violated
        found: list[float] = []
        for step in range(1, len(FACTORS)):
            seconds = range(int(step * self.step_s), int((step + 1) * self.step_s))
            bad = [second for second in seconds if violated[second] > _CALM * asked[second]]
            found.append(max(bad) + 1 - seconds[0] if bad else 0.0)
        return found

    def around_changes(self) -> tuple[float, int]:
        """Return the p99 near changes of scale over that in other seconds of equal load, and the number of changes."""
        changes = [at for at in self.log.changes_s() if 0 <= at < len(FACTORS) * self.step_s]
        near = {int(at) + offset for at in changes for offset in range(-1, _NEAR_S + 1)}
        quiet, around = defaultdict[float, list[float]](list), defaultdict[float, list[float]](list)
        for sample in self.samples:
            if sample.status == "ok":
                (around if int(sample.sent_s) in near else quiet)[sample.factor].append(sample.total_ms)
        ratios = [ms / percentile(quiet[f], 0.99) for f, found in around.items() if quiet[f] for ms in found]
        return (percentile(ratios, 0.99) if ratios else 1.0), len(changes)


async def measure(home: Path, broker: str, seconds: float, plots: Path) -> list[Figure]:
    """Run the fleets one after another in `home`, with its registered models; writes the plots."""
    runs = [await _run(home, broker, fleet, seconds / len(FACTORS)) for fleet in FLEETS]
    plot_runs([(run.fleet, run.samples, run.log) for run in runs], plots)
    return _figures(runs, broker)


async def _run(home: Path, broker: str, fleet: FleetConfig, step_s: float) -> FleetRun:
    async with running_at(home, broker, flags=fleet.flags) as system:
        streams = await calibrated(system)
        await _warm_up(system, streams)
        async with watching(system.postgres) as log, asyncio.TaskGroup() as tasks:
            if fleet.killed:
                tasks.create_task(_kill(system, step_s), name="kill")
            found = await load(system.kafka, streams, FACTORS, step_s)
        return FleetRun(fleet.name, found.samples, found.repeated, log, step_s)


async def _warm_up(system: SystemUnderTest, streams: Sequence[TaskStream]) -> None:
    """Run a load until the required variants are loaded and the JVM has compiled."""
    async with asyncio.timeout(120):
        while True:
            found = await load(system.kafka, streams, [1], 10)
            settled = found.samples[len(found.samples) // 2 :]
            if sum(sample.violated for sample in settled) <= _CALM * len(settled):
                return


async def _kill(system: SystemUnderTest, step_s: float) -> None:
    """Kill the leading autoscaler and a worker in the middle of the highest step."""
    await asyncio.sleep((FACTORS.index(max(FACTORS)) + 0.2) * step_s)
    os.kill(await system.leading_autoscaler(), signal.SIGKILL)
    await asyncio.sleep(0.3 * step_s)
    os.kill(await system.pid_of("worker"), signal.SIGKILL)


async def calibrated(system: SystemUnderTest) -> list[TaskStream]:
    """Return the streams of both tasks, with rates for this machine."""
    async with open_pool(system.postgres, max_size=1) as pool:
        catalog = await load_catalog(pool)
    streams: list[TaskStream] = []
    for task in TASKS:
        count, minimum = _INPUTS[task], _MIN_ACCURACY[task]
        profiles = [catalog.profiles[v.name] for v in catalog.variants.values() if v.task == task]
        compute_s = min(LatencyModel(p.latency, 16).batch_s(count) for p in profiles if p.accuracy >= minimum)
        inputs, _labels = labelled(task)
        streams.append(
            TaskStream(
                task=task,
                inputs={name: array[:count] for name, array in inputs.items()},
                min_accuracy=minimum,
                latency_ms=_LATENCY_MS,
                rate=_PEAK_CORES * _SHARES[task] / compute_s / max(FACTORS),
            )
        )
    return streams


def _figures(runs: Sequence[FleetRun], broker: str) -> list[Figure]:
    scaled, killed, peak, mean = runs

    around, changes = scaled.around_changes()
    shown_twice = sum(sample.shown > 1 for run in (scaled, killed) for sample in run.samples)
    what, twice = "load x8 in steps", "load x8 in steps, with and without 2 SIGKILLs"
    over = ((fleet.fleet, scaled.worker_seconds, fleet.worker_seconds) for fleet in (peak, mean))
    return [
        *(plain(f"{what}: violations, fleet {run.fleet}", broker, run.violations * 100, "%") for run in runs),
        *(beside(f"{what}: cost, autoscaled over {name}", broker, ours, "worker-s", base) for name, ours, base in over),
        *(
            beside(f"{what}: p{share * 100:g}, autoscaled over {peak.fleet}", broker, scaled.latency_ms(share), "ms",
                   peak.latency_ms(share))
            for share in (0.5, 0.99)
        ),
        plain(f"{what}: longest time to recover after a step", broker, max(scaled.recovery_s()), "s"),
        plain(f"{what}: changes of scale", broker, changes),
        within(f"{what}: p99 around changes over p99 in quiet seconds", broker, around, "x", _LIMIT),
        exactly(f"{twice}: queries lost", broker, scaled.lost + killed.lost),
        exactly(f"{twice}: answers shown twice", broker, shown_twice),
        plain(f"{what}, 2 SIGKILLs: second results dropped by id", broker, killed.repeated),
    ]  # fmt: skip
