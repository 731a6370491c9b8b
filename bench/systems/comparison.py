"""Simulations of one system: under a workload with a fleet that it scales, and on fixed hardware."""

from collections.abc import Mapping
from math import ceil
from typing import Final, NamedTuple

from bench.systems.workloads import FIXED, bounded_scenario, scenario
from simulator.oracle.bound import oracle_cost
from simulator.replications import simulate_seed
from simulator.scenario_file import INFAAS, ScenarioFile, find_system
from simulator.simulation import simulate
from simulator.summary import Summary, summarize

ONLY_V100: Final = {"cpu": 0, "t4": 0, "a10g": 0, "inf1": 0}
"""Maxima with which every user has chosen a GPU of the paper."""
_MOST_VIOLATIONS: Final = 0.01
_SLOWEST: Final = 20.0
_STEP: Final = 1.1
_STEPS: Final = 40
"""The fastest rate that is tried is below 20 * 1.1 ** 40, about 900."""
_OVERLOADED: Final = 300.0
"""Mean queries a second that exceed the fixed hardware at their peaks."""


class Row(NamedTuple):
    """Figures of one system under one workload."""

    workload: str
    system: str
    summary: Summary
    bound_usd: float
    """Least USD of any system with as few violations; 0: not computed."""
    computing_usd: float
    """Price of the slots that computed."""


class ComparisonRun(NamedTuple):
    """Simulation to run."""

    workload: str
    system: str
    seed: int
    fleet: Mapping[str, int] | None = None
    """Fleet at the start, in place of the workload's."""


def compare(job: ComparisonRun) -> Row:
    """Simulate a workload with a fleet that the system scales."""
    rest = {} if job.fleet is None else {"fleet": job.fleet}
    file = scenario(job.workload, job.system, job.seed, **rest)
    return _row(job, file, bound=job.system == INFAAS)


def after_peak(job: ComparisonRun) -> Row:
    """Simulate the low load after a peak; a system whose name ends in `on V100` has no other hardware."""
    system, _, only = job.system.partition(" on ")
    rest = {"maximum": ONLY_V100, "fleet": {"v100": 1}} if only else {}
    return _row(job, scenario(job.workload, system, job.seed, **rest))


def overload(job: ComparisonRun) -> Row:
    """Simulate arrivals beyond what the fixed hardware computes."""
    file = bounded_scenario(job.workload, _OVERLOADED, job.system, job.seed, FIXED["five tasks"])
    return _row(job, file)


def throughput(job: ComparisonRun) -> float:
    """Return the highest rate, in queries a second, at which at most 1 % are violated on the fixed hardware."""
    low, high = 0, _STEPS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_met(job, middle) else (low, middle)
    return _rate(low) if low else 0.0


def _rate(step: int) -> float:
    return _SLOWEST * _STEP**step


def _is_met(job: ComparisonRun, step: int) -> bool:
    file = bounded_scenario("poisson", _rate(step), job.system, job.seed, FIXED[job.workload])
    return simulate_seed(file, file.seed).violations <= _MOST_VIOLATIONS


def _row(job: ComparisonRun, file: ScenarioFile, *, bound: bool = False) -> Row:
    prepared = file.scenario(file.seed)
    summary = summarize(simulate(prepared, find_system(file.system)))
    price = {one.name: one.price_per_hour / 3600 for one in prepared.catalogue.hardware}
    computing = sum(price[name] * summary.workers[name] * busy for name, busy in summary.utilisation.items())
    bound_usd = oracle_cost(prepared, summary.violations).usd if bound else 0.0
    return Row(job.workload, job.system, summary, bound_usd, computing * summary.seconds)


def fleet_of(row: Row) -> dict[str, int]:
    """Return the mean fleet of a run after the warm-up, in whole workers; at least as dear."""
    return {name: ceil(count - 1e-6) for name, count in row.summary.workers.items() if count > 0.01}
