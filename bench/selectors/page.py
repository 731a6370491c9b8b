"""Page of the study, docs/selectors.md."""

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Final

from bench.markdown import paragraph, plot_link, table
from bench.results import SELECTORS as SELECTORS_PAGE
from bench.results import origin
from bench.selectors.cell import LATENCY_MS, SEED, SERVICE_S, TUNED_SEED, Cell, CellFigures
from bench.selectors.mechanisms import IDEAL, INTERVAL_S, MECHANISMS, PRODUCTION

SELECTORS: Final = (1, 8, 40)
WORKERS: Final = (100, 1_000, 10_000)
LOADS: Final = (0.5, 0.7, 0.9)
_HIGHEST: Final = LOADS[-1]
_FEW: Final = 1_000
"""Workers up to which every load and mechanism is simulated."""
_LIMIT: Final = 0.01


def cells(counts: Sequence[int]) -> list[Cell]:
    """Return the cells of these numbers of workers, the longest last."""
    found = [
        Cell(mechanism, selectors, workers, load)
        for workers in counts
        for mechanism, numbers in ((PRODUCTION, SELECTORS), ("none", SELECTORS[1:]), (IDEAL, SELECTORS[:1]))
        for selectors in numbers
        for load in LOADS
        if workers <= _FEW or (load == _HIGHEST and mechanism != IDEAL)
    ]
    others = [name for name in MECHANISMS if name not in (PRODUCTION, "none", IDEAL)]
    found += [Cell(name, SELECTORS[-1], WORKERS[0], _HIGHEST) for name in others if WORKERS[0] in counts]
    return sorted(found, key=lambda cell: cell.selectors * cell.workers)


def page(rows: Sequence[CellFigures]) -> str:
    """Format the page in Markdown."""
    longest_s, fewest = max(row.cpu_s for row in rows), min(row.queries for row in rows)
    paragraphs = [
        f"A selector learns of other selectors' queries from statuses and acknowledgements only. This page shows the "
        f"deadlines that this costs, by `make bench-selectors`: simulations with the production code on fixed fleets. "
        f"Workers have one slot. A query takes {SERVICE_S * 1e3:.0f} ms alone (p99 1.2 times) and has {LATENCY_MS:.0f} "
        f"ms from its arrival to the result. Variants do not batch, so no batch absorbs a queue. A busy worker "
        f"sends a status each {INTERVAL_S * 1e3:.0f} ms, in which it computes five queries. Arrivals are Poisson, seed "
        f"{SEED}, at least {fewest:,} queries a cell; the choice among replicas was tuned on seed {TUNED_SEED}. Commit "
        f"{origin()}.",
        "Violations are queries that were refused, late or expired. *True queues* joins the shortest queue with exact "
        "numbers of all queries in flight, which no selector knows: the floor. *Without apertures* treats all replicas "
        "alike. [Selection](explanation/selection.md#choice-among-replicas) explains apertures.",
    ]
    left_out = [f"{workers:,}" for workers in WORKERS if all(row.cell.workers != workers for row in rows)]
    infeasible = (
        f"Above {_FEW:,} workers only the load {_HIGHEST} is simulated, without true queues; the longest cell took "
        f"{longest_s / 60:.1f} minutes of CPU time, nearly all of it for statuses. Numbers of workers that this run "
        f"left out: {', '.join(left_out) or 'none'}. A selector decides 25,000 queries a second, which 500 workers "
        "answer."
    )
    return "\n\n".join(
        [
            "# Many selectors",
            *map(paragraph, paragraphs),
            plot_link(SELECTORS_PAGE, f"Violations against the number of selectors at load {_HIGHEST}, by choice"),
            _by_fleet(rows),
            paragraph(infeasible),
            "## Mechanisms",
            f"{SELECTORS[-1]} selectors, {WORKERS[0]} workers, load {_HIGHEST}.",
            _by_mechanism(rows),
            paragraph(_conclusion(rows)) + "\n",
        ]
    )


def _by_fleet(rows: Iterable[CellFigures]) -> str:
    found = {row.cell: row for row in rows}
    lines: list[list[str]] = []
    names = {PRODUCTION: "production", "none": "without apertures", IDEAL: "true queues"}
    for workers in WORKERS:
        for selectors in SELECTORS:
            for mechanism, name in names.items():
                shown = [found.get(Cell(mechanism, selectors, workers, load)) for load in LOADS]
                if any(shown):
                    lines.append([f"{workers:,}", str(selectors), name, *map(_text, shown)])
    loads = [f"load {load}" for load in LOADS]
    return "\n".join(table(["workers", "selectors", "choice", *loads], "rrl" + "r" * len(loads), lines))


def _text(row: CellFigures | None) -> str:
    if row is None:
        return "-"
    answered = f", p99 {row.p99_ms:.0f} ms" if isfinite(row.p99_ms) else ""
    return f"{row.violations:.2%}{answered}"


def _compared(rows: Iterable[CellFigures]) -> list[CellFigures]:
    """Return the rows of the mechanisms that are compared, in their order."""
    found = {row.cell: row for row in rows}
    compared = [Cell(name, SELECTORS[-1], WORKERS[0], _HIGHEST) for name in MECHANISMS]
    return [found[cell] for cell in compared if cell in found]


def _by_mechanism(rows: Iterable[CellFigures]) -> str:
    lines = [[row.cell.mechanism, f"{row.violations:.2%}", f"{row.p99_ms:.0f}"] for row in _compared(rows)]
    return "\n".join(table(["mechanism", "violations", "p99 ms"], "lrr", lines))


def _conclusion(rows: Sequence[CellFigures]) -> str:
    """Name the mechanisms below the limit, and the cells of production above it."""
    kept = [f"*{row.cell.mechanism}*" for row in _compared(rows) if row.violations < _LIMIT]
    above = [
        f"{row.cell.selectors} selectors with {row.cell.workers:,} workers at {row.cell.load}"
        for row in rows
        if row.cell.mechanism == PRODUCTION and row.violations >= _LIMIT
    ]
    return (
        f"Below {_LIMIT:.0%}: {', '.join(kept) or 'none'}. Production is above it in "
        f"{', '.join(above) or 'no cell of the first table'}."
    )
