"""Display of figures, storage in `bench/results.json`, and generation of the tables from it.

Figures of other runs are kept, so each carries its commit, day and machine. `docs/benchmarks.md` shows those in
`MAIN_FIGURES`, the README those in `HEADLINES`.
"""

import datetime
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from bench.core.figures import Figure
from bench.markdown import table

_ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = _ROOT / "bench" / "results.json"
README: Final = _ROOT / "README.md"
BENCHMARKS: Final = _ROOT / "docs" / "benchmarks.md"
TRIALS: Final = _ROOT / "bench" / "peers" / "trials.json"
SERVERS: Final = _ROOT / "docs" / "peers" / "servers.md"
PLOTS: Final = _ROOT / "docs" / "peers"
VARIANTS: Final = _ROOT / "docs" / "variants.md"
VARIANT_PLOTS: Final = _ROOT / "docs" / "variants"
SYSTEMS: Final = _ROOT / "docs" / "systems.md"
SELECTORS: Final = _ROOT / "docs" / "selectors.md"
LOSSES: Final = _ROOT / "docs" / "losses.md"
ABLATION: Final = _ROOT / "docs" / "ablation.md"
CALIBRATION: Final = _ROOT / "docs" / "calibration.md"
PAGE_PLOTS: Final = _ROOT / "docs" / "plots"
SCALE_PLOTS: Final = _ROOT / "docs" / "scale"
DASHBOARD: Final = _ROOT / "docs" / "dashboard.md"
_WRITTEN: Final = (
    README, BENCHMARKS, RESULTS, TRIALS, PLOTS, VARIANTS, VARIANT_PLOTS, SYSTEMS, SELECTORS, LOSSES, ABLATION,
    CALIBRATION, PAGE_PLOTS, SCALE_PLOTS, DASHBOARD,
)  # fmt: skip
HEADLINES: Final = (
    "end to end less compute, 200/s, p50",
    "end to end less compute, 1000/s, p99",
    "gateway requests",
    "selector throughput, 10,000 variants",
    "idle with the zoo loaded, CPU of all processes",
    "queries lost or refused, 2 SIGKILLs",
    "answers shown twice",
    "peaks in turn: violations, autoscaled over sized for the mean",
    "peaks in turn: cost, autoscaled over sized for the peak",
    "first query after scale to zero, beyond load and inference, worst of 5",
)
"""Names of the figures that the README shows, on Apache Kafka."""
MAIN_FIGURES: Final = (
    "end to end less compute, 200/s, p50",
    "end to end less compute, 1000/s, p99",
    "HTTP at 900/s: p99 over p50",
    "HTTP at 900/s: event loop delays over 10 ms, worst service",
    "CPU a query of all processes, 900/s",
    "CPU a query with 1% traced over none, 900/s",
    "gateway requests",
    "gRPC over HTTP, requests",
    "a key over none, CPU of 1,000 requests at 900/s",
    "CPU of a fetch beside 1,000 partitions, reader",
    "CPU of a fetch beside 1,000 partitions, broker",
    "selector throughput, 10,000 variants",
    "worker fed offline, mnist-resnet",
    "worker fed offline, mnist-resnet by openvino",
    "online at 200/s beside 100,000 offline, p99",
    "batch job of 1,000,000 rows of mnist",
    "idle with the zoo loaded, CPU of all processes",
    "queries lost or refused, 2 SIGKILLs",
    "answers shown twice",
    "overload x5: answered in time",
    "overload by HTTP x5: answered in time",
    "overload x5 by one tenant: another's tenth answered in time",
    "S goodput by HTTP, pinned, over MLServer's",
    "H goodput by HTTP, pinned, over Triton's",
    "sentiment mix with cascades over Triton serving the accurate model to all",
    "peaks in turn: violations, autoscaled over sized for the mean",
    "peaks in turn: cost, autoscaled over sized for the peak",
    "first query after scale to zero, beyond load and inference, worst of 5",
    "100 variants queried by name, one worker: answered",
    "an answer against its prediction, 1 variants at once: median error",
    "an answer against its prediction, 4 variants at once: median error",
    "console, 1,000 variants, 200 workers: slowest first page",
    "console, 1,000 variants, 200 workers: largest update",
    "console, 1,000 variants, 200 workers: idle open page",
)
"""Names of the figures that `docs/benchmarks.md` shows."""


class Origin(NamedTuple):
    """Commit, day and machine of figures; as a text, these three."""

    commit: str
    date: str
    machine: str

    def __str__(self) -> str:
        return ", ".join(self)


def origin() -> Origin:
    """Return the origin of figures that are taken now."""
    return Origin(commit(), datetime.datetime.now(datetime.UTC).date().isoformat(), machine())


def machine() -> str:
    """Describe the machine that figures are taken on."""
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":")[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown CPU")
    memory_gib = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, Python {platform.python_version()}"


def commit() -> str:
    """Return the commit, with `-dirty` if files other than those of the figures have uncommitted changes."""
    git = ["git", "-C", str(_ROOT)]
    head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True, timeout=20)
    figures = [f":!{file.relative_to(_ROOT)}" for file in _WRITTEN]
    changes = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", *figures], timeout=20, check=False)
    return head.strip() + ("-dirty" if changes.returncode else "")


def publish(console: Console, figures: Sequence[Figure], begin: Origin, group: str = "") -> None:
    """Print figures, and store them as figures of a group, with the origin at the begin of their run."""
    show(console, figures)
    write_results([msgspec.structs.replace(figure, group=group) for figure in figures], begin)


def write_results(figures: Sequence[Figure], taken: Origin) -> None:
    """Store these figures, replacing earlier ones of the same name and broker, and rewrite the tables."""
    fields = taken._asdict()
    measured = {(figure.name, figure.broker) for figure in figures}
    kept = [figure for figure in read_results() if (figure.name, figure.broker) not in measured]
    kept += [msgspec.structs.replace(figure, **fields) for figure in figures]
    kept.sort(key=lambda figure: (figure.group, figure.broker))
    RESULTS.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
    write_tables(kept)


def read_results() -> list[Figure]:
    """Return all stored figures."""
    return msgspec.json.decode(RESULTS.read_bytes(), type=list[Figure]) if RESULTS.exists() else []


def write_tables(figures: Sequence[Figure]) -> None:
    """Write the tables of `docs/benchmarks.md` and the README."""
    by_name = {figure.name: figure for figure in figures if figure.broker != "embedded"}
    for page, mark, names in ((README, "bench", HEADLINES), (BENCHMARKS, "bench-page", MAIN_FIGURES)):
        replace_table(page, mark, figure_table(by_name[name] for name in names if name in by_name))
    replace_table(BENCHMARKS, "fleets", fleet_table(by_name))


def fleet_table(figures: Mapping[str, Figure]) -> str:
    """Format a row for each fleet and load in Markdown: each measured figure, and the simulated one behind a slash."""
    columns = {"queries": "queries", "violations": "violations %", "refused": "refused %", "late": "late %",
               "accuracy": "accuracy %", "cost": "worker-s", "p50": "p50 ms", "p99": "p99 ms"}  # fmt: skip
    rows: list[list[str]] = []
    for name in figures:
        run, _, column = name.partition(": ")
        load, comma, fleet = run.partition(", ")
        if comma and column == "queries":
            cells = [figures[f"{run}: {column}"] for column in columns]
            shown = [f"{f.value:,.4g} / {f.baseline or 0.0:,.4g}" for f in cells[1:]]
            rows.append([load, fleet, f"{cells[0].value:,.0f}", *shown])
    return "\n".join(table(["load", "fleet", *columns.values()], "ll" + "r" * len(columns), rows)) + "\n"


def figure_table(figures: Iterable[Figure]) -> str:
    """Format a table of figures in Markdown. The median of rounds is followed by their minimum and maximum."""
    verdicts = {True: "yes", False: "**no**", None: ""}
    rows = [(f.name, *_cells(f), verdicts[f.passed], speed_changes(f.drift, f.repeated), f.commit) for f in figures]
    titles = ["figure", "ours", "baseline", "ratio", "target", "met", "speed", "commit"]
    return "\n".join(table(titles, "lrrrllll", rows)) + "\n"


def show(console: Console, figures: Iterable[Figure]) -> None:
    """Print the figures as a table."""
    shown = Table("figure", "broker", "ours", "baseline", "ratio", "target", "passed")
    verdicts = {True: "yes", False: "[red]no[/]", None: ""}
    for f in figures:
        shown.add_row(f.name, f.broker, *_cells(f), verdicts[f.passed])
    console.print(shown)


def _cells(figure: Figure) -> tuple[str, str, str, str]:
    """Return value, baseline, ratio and target as texts."""
    value = f"{_number(figure.value, 4)}{spread(figure.rounds)} {figure.unit}".strip()
    baseline = ratio = ""
    if figure.baseline is not None:
        baseline = f"{_number(figure.baseline, 4)}{spread(figure.baseline_rounds)} {figure.unit}".strip()
    if figure.ratio is not None:
        ratio = f"{figure.ratio:.2f}{spread(figure.ratios)}"
    return value, baseline, ratio, figure.target


def spread(rounds: Sequence[float]) -> str:
    """Return minimum and maximum of rounds, in brackets; nothing if there are none."""
    return f" ({_number(min(rounds), 3)} to {_number(max(rounds), 3)})" if rounds else ""


def _number(value: float, digits: int) -> str:
    """Return a number with this many significant digits, and all those before the point."""
    return f"{value:,.0f}" if abs(round(value)) >= 10**digits else f"{value:,.{digits}g}"


def speed_changes(drift: float | None, repeated: int) -> str:
    """Return the largest change of the machine's speed between rounds, and the number of those taken again."""
    if drift is None:
        return ""
    return f"±{drift:.0%}" + (f", {repeated} again" if repeated else "")


def replace_table(file: Path, mark: str, lines: str) -> None:
    """Replace the text between the two marks of this name in a file."""
    pattern = re.compile(rf"(<!-- {mark}:begin -->\n).*?(<!-- {mark}:end -->)", re.DOTALL)
    file.write_text(pattern.sub(lambda match: match[1] + lines + match[2], file.read_text()))
