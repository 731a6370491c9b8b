"""The page of the comparison: a summary of what was to be shown, then a table for each workload."""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from bench.results import commit, machine
from bench.systems.comparison import ComparisonRun, Row
from bench.systems.workloads import FIXED
from simulator.scenario_file import INFAAS

_PICKED: Final = ("static", "individual")
"""Systems whose users pick a variant."""
_CLEVER: Final = ("infaas-paper", "infaas-code", "proteus-fleet", "slackfit")


@dataclass(frozen=True)
class Results:
    """Figures of all simulations."""

    seeds: list[int]
    rows: list[Row]
    after_peak: list[Row]
    overload: list[Row]
    throughput: list[tuple[ComparisonRun, float]]
    """Queries a second."""


@dataclass(frozen=True)
class _Means:
    """Means of a system under a workload over the seeds."""

    violations: float
    usd_per_hour: float
    bound: float
    computing: float
    """Price of computing slots over the bound."""
    accuracy: float
    p99_ms: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "_Means":
        known = [row for row in rows if row.bound_usd]
        return cls(
            violations=fmean(row.summary.violations for row in rows),
            usd_per_hour=fmean(row.summary.usd_per_hour for row in rows),
            bound=fmean([row.summary.usd / row.bound_usd for row in known] or [float("nan")]),
            computing=fmean([row.computing_usd / row.bound_usd for row in known] or [float("nan")]),
            accuracy=fmean(row.summary.accuracy for row in rows),
            p99_ms=fmean(row.summary.p99_ms for row in rows),
        )


def _tables(rows: Iterable[Row]) -> dict[str, dict[str, _Means]]:
    """Return the means by workload and system."""
    grouped: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        grouped.setdefault(row.workload, {}).setdefault(row.system, []).append(row)
    return {workload: {name: _Means.of(found) for name, found in by.items()} for workload, by in grouped.items()}


def page(results: Results) -> str:
    """Format the page in Markdown."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# Systems compared in simulation",
        "",
        "INFaaS on Kafka (`infaas`) and [other systems](../simulator/baselines/__init__.py) on the same simulated",
        "workers, delays and catalogue (`infaas-44x270`), by `make bench-systems`. Only their decisions differ.",
        f"Means over the seeds {', '.join(map(str, results.seeds))}; the policy was tuned on seed 0, with flat, bursty",
        f"and diurnal loads of ten workers. Commit {commit()}, {day}, {machine()}.",
        "",
        "Violations are online queries that were refused, late or never answered.",
        "",
        *_summary(results),
        "",
        "## Throughput on fixed hardware",
        "",
        "The highest rate of a flat load at which at most 1 % of the queries are violated, found by bisection to 10 %.",
        "All workers run from the start. Detection and speech recognition are fast enough on T4 only.",
        "",
        *_throughput(results.throughput),
        "",
        "## Load beyond fixed hardware",
        "",
        f"Five tasks that exceed the capacity of {FIXED['five tasks']} at their peaks.",
        "",
        *_sections(results.overload),
        "",
        "## Low load after a peak",
        "",
        "A minute of a load of ten workers, then a hundredth of it; figures begin four minutes after the peak.",
        "`static` is sized for the peak, as Clipper+ in INFaaS's evaluation. On V100 every user has chosen the GPU",
        "of that evaluation.",
        "",
        *_sections(results.after_peak),
        "",
        "## Cost and violations with a fleet that the system scales",
        "",
        "`bound` is the price over the least price of any system that knows the trace and violates as little as",
        "`infaas`; `computing` is the price of the slots while they compute, over the same. Their difference idles.",
        "`proteus-fleet` has the mean fleet of `infaas`, in whole workers. Figures begin after the warm-up.",
        "",
        *_sections(results.rows),
    ]
    return "\n".join(lines) + "\n"


# -- summary -----------------------------------------------------------------------------------------------------------


def _summary(results: Results) -> list[str]:
    tables, after, over = _tables(results.rows), _tables(results.after_peak), _tables(results.overload)
    lines = ["| aim | least | most | reached |", "|---|---:|---:|---|"]
    rates = _rates(results.throughput).values()
    more = [by[INFAAS] / max(*(by[name] for name in _PICKED), 1e-9) for by in rates]
    lines.append(_claim("throughput, at least 2 times the better of static and individual", more, 2.0))
    fewer = [min(by[name].violations for name in _PICKED) / max(by[INFAAS].violations, 1e-9) for by in over.values()]
    lines.append(_claim("violations under overload, at most a third of theirs", fewer, 3.0))
    cheaper = [min(by[name].usd_per_hour for name in _PICKED) / by[INFAAS].usd_per_hour for by in after.values()]
    lines.append(_claim("cost at low load after a peak, at most 1/8.5 of theirs", cheaper, 8.5))
    chosen = [by[f"{name} on V100"].usd_per_hour / by[INFAAS].usd_per_hour for by in after.values() for name in _PICKED]
    lines.append(_claim("the same where users have chosen V100", chosen, 8.5))
    bounds = [by[INFAAS].bound for by in tables.values()]
    lines.append(_claim("cost, at most 1.15 times the oracle's", bounds, 1.15, at_most=True))
    for name in _CLEVER:
        known = [(workload, by) for workload, by in tables.items() if name in by]
        better = [workload for workload, by in known if _is_better(by[INFAAS], by[name])]
        lines.append(
            f"| fewer violations than `{name}` at no higher cost | | {len(better)} of {len(known)} workloads "
            f"| {'yes' if len(better) == len(known) else 'no'} |"
        )
    return lines


def _is_better(ours: _Means, theirs: _Means) -> bool:
    return ours.violations <= theirs.violations and ours.usd_per_hour <= theirs.usd_per_hour


def _claim(name: str, ratios: Sequence[float], aim: float, *, at_most: bool = False) -> str:
    if not ratios:
        return f"| {name} | | | not simulated |"
    reached: Callable[[float], bool] = (lambda ratio: ratio <= aim) if at_most else (lambda ratio: ratio >= aim)
    count = sum(map(reached, ratios))
    words = "yes" if count == len(ratios) else "no" if not count else f"in {count} of {len(ratios)}"
    return f"| {name} | {_times(min(ratios))} | {_times(max(ratios))} | {words} |"


def _times(ratio: float) -> str:
    return "over 100" if ratio > 100 else f"{ratio:.2f}"


# -- tables ------------------------------------------------------------------------------------------------------------


def _rates(found: Sequence[tuple[ComparisonRun, float]]) -> dict[str, dict[str, float]]:
    """Return the mean rates by load and system."""
    grouped: dict[str, dict[str, list[float]]] = {}
    for job, rate in found:
        grouped.setdefault(job.workload, {}).setdefault(job.system, []).append(rate)
    return {workload: {name: fmean(rates) for name, rates in by.items()} for workload, by in grouped.items()}


def _throughput(found: Sequence[tuple[ComparisonRun, float]]) -> list[str]:
    by_load = _rates(found)
    heads = [f"{load} on {FIXED[load]}, queries/s" for load in by_load]
    names = dict.fromkeys(name for by in by_load.values() for name in by)
    rows = [" | ".join((name, *(f"{by[name]:.0f}" for by in by_load.values()))) for name in names]
    return [f"| system | {' | '.join(heads)} |", f"|---{'|---:' * len(heads)}|", *(f"| {row} |" for row in rows)]


def _sections(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for workload, by in _tables(rows).items():
        lines += [*([""] if lines else []), f"### {workload}", ""]
        lines += ["| system | violations | USD/h | bound | computing | accuracy | p99 ms |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|", *(_line(name, one) for name, one in by.items())]
    return lines


def _line(name: str, one: _Means) -> str:
    return (
        f"| {name} | {one.violations:.2%} | {one.usd_per_hour:.3f} | {_known(one.bound)} | {_known(one.computing)} "
        f"| {one.accuracy:.4f} | {one.p99_ms:.0f} |"
    )


def _known(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio == ratio else "-"
