"""Delays of a real system as settings of a simulation, from the times in the results of its queries.

The times are those of a run at a moderate load: the quantiles of waits for records. A query's wait at its worker counts
only if it found the worker idle, since the simulator itself computes the wait for other queries.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from statistics import median, stdev
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from autoscaler.apply.reconcile_plan import ReconcileStep
from simulator.durations import Duration
from simulator.scenario import Delays, Machine, Scenario
from simulator.simulation import ScaleChange

_PLACES: Final = ("place", "replicate")
"""Actions that put an instance on a worker."""
_STEPS: Final = 101
_LEAST: Final = 20
"""Number of queries from which on quantiles are used."""
_LEAST_STARTS: Final = 5
"""Number of starts of workers from which on their deviation is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTimes:
    """Times of answered queries in seconds, one element for each."""

    send_delay_s: NDArray[np.float64]
    """From the time at which the query was due to the client's send."""
    to_selector_s: NDArray[np.float64]
    """From the client's send to the selector's choice."""
    to_worker_s: NDArray[np.float64]
    """From the selector's send to the begin of the computation."""
    compute_s: NDArray[np.float64]
    """Computation of the query's batch."""
    total_s: NDArray[np.float64]
    """From the client's send to its result."""

    @property
    def result_s(self) -> NDArray[np.float64]:
        """From the end of the computation to the client's result."""
        return np.maximum(self.total_s - self.to_selector_s - self.to_worker_s - self.compute_s, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """Use of one machine during a run."""

    cpus: int
    used: float
    """Share of its CPU time that all programs used."""
    system_s: float
    """CPU seconds of the system's processes and of the client program."""


class MeasuredStart(msgspec.Struct, frozen=True):
    """Lognormal distribution of the time until a started worker can load its first instance."""

    hardware: tuple[str, ...]
    """Types of hardware of the system; the median is the same for all of them."""
    p50_s: float
    deviation: float
    """Standard deviation of the logarithm."""

    @property
    def start_s(self) -> dict[str, float]:
        """Median by hardware, as in a scenario file."""
        return dict.fromkeys(self.hardware, self.p50_s)


class MeasuredSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a simulation that were measured on the real system."""

    delays: Delays
    machine: Machine | None
    """None if the system runs elsewhere."""
    start: MeasuredStart | None
    """None if no worker was started."""

    def apply(self, scenario: Scenario, seed: int) -> Scenario:
        """Return a scenario with these settings."""
        catalogue, workers = scenario.catalogue, scenario.workers
        if self.start is not None:
            catalogue = catalogue.starting(self.start.start_s)
            workers = replace(workers, start_deviation=self.start.deviation)
        return replace(
            scenario, catalogue=catalogue, workers=workers, delays=self.delays, machine=self.machine, seed=seed
        )

    def scenario_file(self) -> bytes:
        """Return a scenario file with these settings, for `infaas simulate --scenario`."""
        document: dict[str, Any] = {"delays": self.delays, "machine": self.machine}
        if self.start is not None:
            document |= {"start_s": self.start.start_s, "workers": {"start_deviation": self.start.deviation}}
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def fit_delays(times: MeasuredTimes, base: Delays) -> Delays:
    """Return `base` with the measured distributions in place of its own, if there are enough queries."""
    if len(times.total_s) < _LEAST:
        return base
    idle = times.to_worker_s <= np.median(times.to_worker_s) + np.median(times.compute_s)
    return replace(
        base,
        to_selector=_duration(times.send_delay_s + times.to_selector_s),
        to_worker=_duration(times.to_worker_s[idle]),
        result=_duration(times.result_s),
    )


def fit_machine(times: MeasuredTimes, queries: int, seconds: float, use: CpuUse) -> Machine:
    """Return the machine on which this number of queries took the measured times, within `seconds`.

    A query's computation counts in full even if others shared its batch, so the rest is what the services used at
    least.
    """
    computing_s = float(times.compute_s.sum())
    services_s = max(use.system_s - computing_s, 0.0)
    other = use.used - (computing_s + services_s) / (seconds * use.cpus)
    return Machine(
        cpus=use.cpus, query_cpu_s=round(services_s / max(queries, 1), 6), other_cpu=round(max(other, 0.0), 3)
    )


def fit_start(started_s: Sequence[float], base: Scenario) -> MeasuredStart | None:
    """Return the distribution of these start times; with the deviation of `base` if there are few of them."""
    if not started_s:
        return None
    enough = len(started_s) >= _LEAST_STARTS and min(started_s) > 0.0
    deviation = stdev(log(seconds) for seconds in started_s) if enough else base.workers.start_deviation
    return MeasuredStart(tuple(one.name for one in base.catalogue.hardware), median(started_s), deviation)


def worker_start_s(changes: Sequence[ScaleChange]) -> list[float]:
    """Return the seconds from each start of a worker until the autoscaler placed an instance on it."""
    found: list[float] = []
    for number, start in enumerate(changes):
        if start.action == ReconcileStep.START:
            placed_s = (c.at_s for c in changes[number:] if c.worker == start.worker and c.action in _PLACES)
            found += [at_s - start.at_s for at_s in itertools.islice(placed_s, 1)]
    return found


def _duration(seconds: NDArray[np.float64]) -> Duration:
    quantiles = np.quantile(seconds, np.linspace(0.0, 1.0, _STEPS))
    p50_s, p99_s = (float(quantiles[at]) for at in (50, 99))
    return Duration(p50_s=p50_s, p99_s=p99_s, measured_s=tuple(np.round(quantiles, 6).tolist()))
