"""The page of the comparison: a summary of what was to be shown, then a table for each workload."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, TypeVar

from bench.markdown import details, paragraph, plot_link, table
from bench.results import SYSTEMS, origin
from bench.simulations import TUNED
from bench.systems.comparison import ComparisonRun, Row
from bench.systems.missed import MISSED
from bench.systems.workloads import AFTER_PEAK_SEEDS, FIXED
from simulator.scenario_file import INFAAS

_PICKED: Final = ("static", "individual")
"""Systems whose users pick a variant."""
_LEAST: Final = 1e-5
"""Violations below this share count as this share."""
_T = TypeVar("_T")
_M = TypeVar("_M")
_THROUGHPUT: Final = (
    "The highest rate of a flat load at which at most 1 % of the queries are violated, found by bisection to 10 %.",
    "All workers run from the start. Detection and speech recognition are fast enough on T4 only.",
)
_OVERLOAD: Final = (f"Five tasks that exceed the capacity of {FIXED['five tasks']} at their peaks.",)
_AFTER_PEAK: Final = (
    "A minute of a load of ten workers, then a hundredth of it; figures begin four minutes after the peak.",
    f"They are means of {AFTER_PEAK_SEEDS} seeds, since the worker that remains differs by seed.",
    "`static` is sized for the peak, as Clipper+ in INFaaS's evaluation. On V100 every user has chosen the GPU",
    "of that evaluation.",
)
_SCALED: Final = (
    "`bound` is the price over the least price of any system that knows the trace and violates as little as",
    "`infaas`; `computing` is the price of the slots while they compute, over the same. Their difference idles.",
    "`proteus-fleet` has the mean fleet of `infaas`, in whole workers. Figures begin after the warm-up. A day of the",
    "diurnal loads has 600 s, and 300 s for forty workers, in which a worker takes 30 s to start.",
)
_TITLES: Final = ("system", "violations", "USD/h", "bound", "computing", "accuracy", "p99 ms")
_BETTER: Final = "Better: no more violations at no higher price, and less of one of them."
_RIVALS: Final = ("infaas-paper", "infaas-code", "proteus-fleet", "slackfit", "ray-serve", "keda")


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
    return _by_system(((row.workload, row.system, row) for row in rows), _Means.of)


def _by_system(found: Iterable[tuple[str, str, _T]], mean: Callable[[list[_T]], _M]) -> dict[str, dict[str, _M]]:
    """Return the mean over the seeds of what was found for each workload and system."""
    grouped: dict[str, dict[str, list[_T]]] = {}
    for workload, system, one in found:
        grouped.setdefault(workload, {}).setdefault(system, []).append(one)
    return {workload: {name: mean(ones) for name, ones in by.items()} for workload, by in grouped.items()}


def page(results: Results) -> str:
    """Format the page in Markdown."""
    lines = [
        "# Systems compared in simulation",
        "",
        "INFaaS on Kafka (`infaas`) and [other systems](../simulator/baselines/__init__.py) on the same simulated",
        "workers, delays and catalogue (`infaas-44x270`), by `make bench-systems`. Only their decisions differ.",
        f"Seeds (means, if several): {', '.join(map(str, results.seeds))}. Commit {origin()}.",
        "",
        paragraph(TUNED),
        "",
        "Violations are online queries that were refused, late or never answered.",
        "",
        plot_link(SYSTEMS, "Price and violations of each system with a fleet that it scales, by workload"),
        "",
        *_summary(results),
        "",
        *MISSED,
        *_part("Throughput on fixed hardware", _THROUGHPUT, _throughput(results.throughput)),
        *_part("Load beyond fixed hardware", _OVERLOAD, _sections(results.overload)),
        *_part("Low load after a peak", _AFTER_PEAK, _sections(results.after_peak)),
        *_part("Cost and violations with a fleet that the system scales", _SCALED, _sections(results.rows)),
    ]
    return "\n".join(lines) + "\n"


def _part(title: str, text: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Return a part of the page; nothing if it was not simulated."""
    return ["", f"## {title}", "", *text, "", *tables] if tables else []


# -- summary -----------------------------------------------------------------------------------------------------------


def _summary(results: Results) -> list[str]:
    tables = _tables(results.rows)
    after, over = _tables(results.after_peak).values(), _tables(results.overload).values()
    on_v100 = [f"{name} on V100" for name in _PICKED]
    lines = ["| aim | least | most | reached |", "|---|---:|---:|---|"]
    rates = [(by[INFAAS], _known_of(by, _PICKED)) for by in _rates(results.throughput).values()]
    lines += [
        _claim("throughput over the better of static and individual: 2", [n / max(t) for n, t in rates if t], 2.0),
        _claim(
            "violations of the better of the two under overload, over ours: 3",
            _least_over_ours(over, _PICKED, _violations),
            3.0,
        ),
        _claim("the same with a scaled fleet: 3", _least_over_ours(tables.values(), _PICKED, _violations), 3.0),
        _claim(
            "price of the cheaper of the two at low load after a peak, over ours: 8.5",
            _least_over_ours(after, _PICKED, _price),
            8.5,
        ),
        _claim("the same where users have chosen V100: 8.5", _least_over_ours(after, on_v100, _price), 8.5),
        _claim(
            "price of the cheaper of the two with a scaled fleet, over ours",
            _least_over_ours(tables.values(), _PICKED, _price),
            1.0,
        ),
        _claim("price over the oracle's: 1.15", [by[INFAAS].bound for by in tables.values()], 1.15, at_most=True),
    ]
    return [*lines, "", *_rivals(tables)]


def _rivals(tables: Mapping[str, Mapping[str, _Means]]) -> list[str]:
    """Compare violations and price with each system that chooses variants."""
    rows: list[list[str]] = []
    for name in _RIVALS:
        pairs = [(by[INFAAS], by[name]) for by in tables.values() if name in by]
        better = sum(_is_better(ours, theirs) for ours, theirs in pairs)
        worse = sum(_is_better(theirs, ours) for ours, theirs in pairs)
        rows.append([f"than `{name}`", str(better), str(len(pairs) - better - worse), str(worse)])
    titles = ("workloads in which `infaas` is", "better", "neither", "worse")
    return [*table(titles, "lrrr", rows), "", _BETTER]


def _known_of(by: Mapping[str, _T], names: Iterable[str]) -> list[_T]:
    return [by[name] for name in names if name in by]


def _least_over_ours(
    tables: Iterable[Mapping[str, _Means]], names: Sequence[str], figure: Callable[[_Means], float]
) -> list[float]:
    """Return the lowest figure of these systems over ours, by workload."""
    found = [(by[INFAAS], _known_of(by, names)) for by in tables]
    return [min(map(figure, theirs)) / figure(ours) for ours, theirs in found if theirs]


def _violations(means: _Means) -> float:
    return max(means.violations, _LEAST)


def _price(means: _Means) -> float:
    return means.usd_per_hour


def _reached(count: int, of: int) -> str:
    return "not simulated" if not of else "yes" if count == of else f"in {count} of {of}" if count else "no"


def _is_better(ours: _Means, theirs: _Means) -> bool:
    """Return true if ours is as good in violations and price, and better in one."""
    own, other = (ours.violations, ours.usd_per_hour), (theirs.violations, theirs.usd_per_hour)
    return own != other and own[0] <= other[0] and own[1] <= other[1]


def _claim(name: str, ratios: Sequence[float], aim: float, *, at_most: bool = False) -> str:
    count = sum(ratio <= aim if at_most else ratio >= aim for ratio in ratios)
    ends = f"{_times(min(ratios))} | {_times(max(ratios))}" if ratios else " | "
    return f"| {name} | {ends} | {_reached(count, len(ratios))} |"


def _times(ratio: float) -> str:
    return "over 100" if ratio > 100 else f"{ratio:.2f}"


# -- tables ------------------------------------------------------------------------------------------------------------


def _rates(found: Sequence[tuple[ComparisonRun, float]]) -> dict[str, dict[str, float]]:
    """Return the mean rates by load and system."""
    return _by_system(((job.workload, job.system, rate) for job, rate in found), fmean)


def _throughput(found: Sequence[tuple[ComparisonRun, float]]) -> list[str]:
    by_load = _rates(found)
    if not by_load:
        return []
    heads = [f"{load} on {FIXED[load]}, queries/s" for load in by_load]
    names = dict.fromkeys(name for by in by_load.values() for name in by)
    rows = [[name, *(f"{by[name]:.0f}" for by in by_load.values())] for name in names]
    return table(["system", *heads], "l" + "r" * len(heads), rows)


def _sections(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for workload, by in _tables(rows).items():
        lines += [*([""] if lines else []), f"### {workload}", ""]
        lines += details(_summary_of(by), table(_TITLES, "lrrrrrr", [[name, *_cells(one)] for name, one in by.items()]))
    return lines


def _summary_of(by: Mapping[str, _Means]) -> str:
    ours = by[INFAAS]
    return f"{INFAAS}: {ours.violations:.2%} violated at {ours.usd_per_hour:.3f} USD/h; all {len(by)} systems"


def _cells(one: _Means) -> list[str]:
    ratios = [_known(one.bound), _known(one.computing)]
    return [f"{one.violations:.2%}", f"{one.usd_per_hour:.3f}", *ratios, f"{one.accuracy:.4f}", f"{one.p99_ms:.0f}"]


def _known(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio == ratio else "-"
