"""Table of a run's regret: the largest rows as texts, for the report and the command line."""

from collections.abc import Iterable, Iterator
from itertools import islice
from math import isnan
from typing import Final

from selector.dispatch.explanation import CHOSEN
from simulator.regret import RegretRow
from simulator.trace import QueryKind

COLUMNS: Final = ("task", "needs", "queries", "outcome", "taken", "oracle", "because the oracle's", "USD/1000 more")
NUMBERS: Final = (2, 7)
"""Columns of numbers."""
_MOST: Final = 20


def regret_cells(rows: Iterable[RegretRow]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the first rows in which the oracle's choice was not taken."""
    for row in islice((row for row in rows if row.why != CHOSEN), _MOST):
        usd = "-" if isnan(row.usd_per_1000) else f"{row.usd_per_1000:+.4f}"
        taken, choice = row.taken or "-", row.choice or "-"
        yield row.kind.task, _needs(row.kind), str(row.queries), row.outcome.name.lower(), taken, choice, row.why, usd


def _needs(kind: QueryKind) -> str:
    """Return the latency, accuracy and size that a kind asks for."""
    latency = "" if kind.latency_ms is None else f"{kind.latency_ms:g} ms"
    accuracy = "" if kind.min_accuracy is None else f"accuracy {kind.min_accuracy:g}"
    batch = f"{kind.batch} inputs" if kind.batch > 1 else ""
    return ", ".join(filter(None, (latency, accuracy, batch)))
