"""Simulation of one system under one workload, and the page of all."""

import datetime
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from bench.results import commit, machine
from bench.systems.workloads import scenario
from simulator.oracle.bound import oracle_cost
from simulator.scenario_file import find_system
from simulator.simulation import simulate
from simulator.summary import Summary, summarize


class Row(NamedTuple):
    """Figures of one system under one workload."""

    workload: str
    system: str
    summary: Summary
    bound_usd: float
    """Least USD of any system with as few violations."""


def compare(run: tuple[str, str, int]) -> Row:
    """Simulate a workload with a system and a seed."""
    workload, system, seed = run
    file = scenario(workload, system, seed)
    prepared = file.scenario(seed)
    summary = summarize(simulate(prepared, find_system(system)))
    return Row(workload, system, summary, oracle_cost(prepared, summary.violations).usd)


def page(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """Format the page in Markdown."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Systems compared in simulation",
        "",
        "INFaaS on Kafka (`infaas`) and [other systems](../simulator/baselines/__init__.py) on the same simulated",
        "workers, delays and catalogue (`infaas-44x270`), by `make bench-systems`. Only their decisions differ.",
        f"Means over the seeds {', '.join(map(str, seeds))}; the policy was tuned on seed 0. Commit {commit()}, {day},",
        f"{machine()}.",
        "",
        "Violations are online queries that were refused, late or never answered. `bound` is the price over the least",
        "price of any system that knows the trace and violates as little. One CPU worker runs at the start; the first",
        "five minutes are left out.",
    ]
    for workload in dict.fromkeys(row.workload for row in rows):
        lines += ["", f"## {workload}", "", "| system | violations | USD/h | bound | accuracy | p99 ms |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        systems = dict.fromkeys(row.system for row in rows if row.workload == workload)
        lines += [
            _line(system, [r for r in rows if (r.workload, r.system) == (workload, system)]) for system in systems
        ]
    return "\n".join(lines) + "\n"


def _line(system: str, rows: Sequence[Row]) -> str:
    summaries = [row.summary for row in rows]
    ratio = fmean([row.summary.usd / row.bound_usd if row.bound_usd else float("inf") for row in rows])
    usd_per_hour = fmean([s.usd_per_hour for s in summaries])
    return (
        f"| {system} | {fmean([s.violations for s in summaries]):.2%} | {usd_per_hour:.3f} "
        f"| {ratio:.2f} | {fmean([s.accuracy for s in summaries]):.4f} | {fmean([s.p99_ms for s in summaries]):.0f} |"
    )
