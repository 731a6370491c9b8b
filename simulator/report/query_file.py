"""Parquet file of the queries of a run: one row for each, in the order of their arrival.

Columns: `time_s`, the needs and the other fields of `QueryKind`, and the outcome by the names of `QueryColumns`.
"""

from pathlib import Path
from typing import Any

import numpy as np

from simulator.outcomes import REASONS, QueryOutcome
from simulator.simulation import SimulationResult
from simulator.trace import QueryKind
from simulator.trace_columns import import_pyarrow

_TIMES = ("ended_s", "cost", "chosen_s", "predicted_s", "upgraded")


def write_queries(result: SimulationResult, file: Path) -> None:
    """Write the queries of a simulation.

    Raises:
        OperatorError: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    parquet, arrow = import_pyarrow(file)
    trace, columns = result.scenario.trace, result.queries
    names = [variant.name for variant in result.scenario.catalogue.variants]
    arrays: dict[str, Any] = {"time_s": trace.time_s}
    for name in QueryKind.__struct_fields__:
        arrays[name] = arrow.array([getattr(kind, name) for kind in trace.kinds]).take(arrow.array(trace.kind))
    chosen = arrow.array(columns.variant, mask=columns.variant < 0)
    arrays |= {
        "outcome": _named(arrow, [one.name.lower() for one in QueryOutcome], columns.outcome),
        "reason": _named(arrow, [reason or None for reason in REASONS], columns.reason),
        "variant": arrow.array(names, arrow.string()).take(chosen),
        **{name: getattr(columns, name) for name in _TIMES},
    }
    parquet.write_table(arrow.table(arrays), file)


def _named(arrow: Any, names: list[Any], indexes: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    return arrow.array(names, arrow.string()).take(arrow.array(indexes))
