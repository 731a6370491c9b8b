"""A trace: the arrival times and the kinds of queries, as arrays.

A kind holds everything of a query but its arrival time, so a trace of a million queries needs twelve bytes for each.
Two equal traces have equal arrays: kinds are distinct, occur at least once, and are in the order of their first query.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.access import EVERY_TENANT
from schemas.errors import OperatorError
from schemas.names import is_name, is_variant_name, is_version
from schemas.query import MAX_BATCH, Mode
from simulator.trace_columns import COLUMNS, TraceColumns, cell_text, read_columns, row_place, write_columns

_NAME: Final = "a name of a-z, 0-9 and '-'"


class QueryKind(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Task, needs and size of a query; the needs are those of `schemas.query.Needs`. None: no limit.

    Raises:
        ValueError: a field is out of range.
    """

    task: str
    latency_ms: float | None = None
    """Maximum milliseconds from the arrival to the result."""
    min_accuracy: float | None = None
    max_cost: float | None = None
    """Maximum USD per 1000 queries of this size."""
    batch: int = 1
    """Number of inputs."""
    tenant: str | None = None
    mode: Mode = Mode.ONLINE
    target: str | None = None

    def __post_init__(self) -> None:
        """Check the fields as `schemas.query.parse_query` checks headers."""
        _check("task", is_name(self.task), _NAME, self.task)
        _check("latency_ms", _within(self.latency_ms, math.inf), "0 or more", self.latency_ms)
        _check("min_accuracy", _within(self.min_accuracy, 1), "0 to 1", self.min_accuracy)
        _check("max_cost", _within(self.max_cost, math.inf), "0 or more", self.max_cost)
        _check("batch", 1 <= self.batch <= MAX_BATCH, f"1 to {MAX_BATCH}", self.batch)
        _check("tenant", self.tenant in (None, EVERY_TENANT) or is_name(self.tenant or ""), _NAME, self.tenant)
        _check("target", self.target is None or _is_target(self.target), "a model, version or variant", self.target)


@dataclass(frozen=True, eq=False)
class Trace:
    """Arrivals of queries.

    Raises:
        ValueError: the arrays do not have one length, a time is negative, not finite or before its predecessor, or a
            kind does not exist.
    """

    time_s: NDArray[np.float64]
    """Ascending arrival times, from the start of the trace."""
    kind: NDArray[np.int32]
    """Index into `kinds` of each query."""
    kinds: tuple[QueryKind, ...]

    def __post_init__(self) -> None:
        """Check the arrays and put the kinds in order."""
        time_s, kind = np.asarray(self.time_s, np.float64), np.asarray(self.kind, np.int32)
        if time_s.shape != kind.shape or time_s.ndim != 1:
            raise ValueError(f"{time_s.shape} times and {kind.shape} kinds do not make one trace")
        if (row := first_invalid(time_s)) is not None:
            raise ValueError(f"time {row} is {time_s[row]}: times must be ascending and at least 0")
        if len(kind) and not 0 <= kind.min() <= kind.max() < len(self.kinds):
            raise ValueError(f"a kind is not within the {len(self.kinds)} given ones")
        ordered, kinds = _in_order(kind, self.kinds)
        for name, value in (("time_s", time_s), ("kind", ordered), ("kinds", kinds)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of queries."""
        return len(self.time_s)

    @property
    def duration_s(self) -> float:
        """Arrival time of the last query; 0 without queries."""
        return float(self.time_s[-1]) if len(self) else 0.0

    @property
    def is_online(self) -> NDArray[np.bool_]:
        """True for each online query."""
        return np.array([kind.mode is Mode.ONLINE for kind in self.kinds], np.bool_)[self.kind]

    @property
    def inputs(self) -> NDArray[np.int64]:
        """Number of inputs of each query."""
        return np.array([kind.batch for kind in self.kinds], np.int64)[self.kind]

    @property
    def rate_per_s(self) -> float:
        """Mean number of queries per second; 0 if the duration is 0."""
        return len(self) / self.duration_s if self.duration_s else 0.0

    def rates_per_s(self, window_s: float) -> NDArray[np.float64]:
        """Return the rate of queries in each window of `window_s`, which must be above 0."""
        windows = (self.time_s / window_s).astype(np.int64)
        return np.bincount(windows).astype(np.float64) / window_s

    def faster(self, factor: float) -> "Trace":
        """Return the trace at `factor` times its speed; needs stay.

        Raises:
            OperatorError: the factor is not above 0.
        """
        if not 0 < factor < math.inf:
            raise OperatorError(f"the speed-up of a trace must be above 0, not {factor:g}")
        return Trace(self.time_s / factor, self.kind, self.kinds)

    def overlaid(self, others: Sequence["Trace"]) -> "Trace":
        """Return the queries of this and other traces together; at equal times the earlier trace comes first."""
        traces = (self, *others)
        time_s = np.concatenate([trace.time_s for trace in traces])
        offsets = np.cumsum([0, *(len(trace.kinds) for trace in traces[:-1])])
        kind = np.concatenate([trace.kind + offset for trace, offset in zip(traces, offsets, strict=True)])
        order = np.argsort(time_s, kind="stable")
        return Trace(time_s[order], kind[order], tuple(kind for trace in traces for kind in trace.kinds))

    def cut(self, from_s: float, to_s: float = math.inf) -> "Trace":
        """Return the queries from `from_s` up to, but without, `to_s`; their times begin at `from_s`.

        Raises:
            OperatorError: `from_s` is negative, or `to_s` is not later.
        """
        if not 0 <= from_s < to_s:
            raise OperatorError(f"a trace cannot be cut from {from_s:g} s to {to_s:g} s: the end must be later")
        part = slice(*np.searchsorted(self.time_s, (from_s, to_s)))
        return Trace(self.time_s[part] - from_s, self.kind[part], self.kinds)

    def limited(self, queries: int) -> "Trace":
        """Return the first `queries` queries, or all if there are fewer.

        Raises:
            OperatorError: the number is negative.
        """
        if queries < 0:
            raise OperatorError(f"a trace cannot have {queries} queries")
        return Trace(self.time_s[:queries], self.kind[:queries], self.kinds)


def first_invalid(time_s: NDArray[np.float64]) -> int | None:
    """Return the index of the first time that is negative, not finite or before its predecessor; None: none is."""
    bad = ~(np.isfinite(time_s) & (time_s >= 0))
    bad[1:] |= time_s[1:] < time_s[:-1]
    return int(bad.argmax()) if bad.any() else None


def _in_order(kind: NDArray[np.int32], kinds: tuple[QueryKind, ...]) -> tuple[NDArray[np.int32], tuple[QueryKind, ...]]:
    """Return kinds without duplicates and unused ones, in the order of their first query, and the indices into them."""
    known: dict[QueryKind, int] = {}
    merged = np.array([known.setdefault(one, index) for index, one in enumerate(kinds)], np.int32)
    distinct = merged[kind] if len(known) < len(kinds) else kind
    first = np.full(len(kinds), len(kind))
    first[distinct[::-1]] = np.arange(len(kind))[::-1]  # of several assignments to an element the last one holds
    order = np.argsort(first, kind="stable")[: np.count_nonzero(first < len(kind))]
    position = np.zeros(len(kinds), np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    return position[distinct], tuple(kinds[index] for index in order)


def _within(value: float | None, high: float) -> bool:
    return value is None or (0 <= value <= high and math.isfinite(value))


def _is_target(text: str) -> bool:
    return is_name(text) or is_variant_name(text) or is_version(text)


def _check(field: str, valid: bool, allowed: str, value: object) -> None:
    if not valid:
        raise ValueError(f"{field} must be {allowed}, not {value!r}")


def read_trace(path: Path) -> Trace:
    """Read a trace from a CSV or Parquet file; the format is that of `docs/traces.md`.

    Raises:
        OperatorError: the file is not a valid trace; the message names the line and the remedy.
        OSError: the file cannot be read.
    """
    columns = read_columns(path)
    if (row := first_invalid(columns.time_s)) is not None:
        before = columns.time_s[row - 1] if row else 0
        raise OperatorError(
            f"{row_place(path, row)}: time_s is {columns.time_s[row]:g} after {before:g}: times must be finite, "
            "at least 0, and ascending; sort the rows"
        )
    kinds = [_read_kind(path, columns, index) for index in range(len(columns.kinds))]
    return Trace(columns.time_s, columns.kind, tuple(kinds))


def write_trace(trace: Trace, path: Path) -> None:
    """Write a trace to a CSV or Parquet file, which `read_trace` reads as the same trace.

    Raises:
        OperatorError: the suffix of the name is unknown, or pyarrow is missing.
        OSError: the file cannot be written.
    """
    write_columns(path, TraceColumns(trace.time_s, trace.kind, [_cells_of(kind) for kind in trace.kinds]))


def _read_kind(path: Path, columns: TraceColumns, index: int) -> QueryKind:
    try:
        return msgspec.convert(columns.kinds[index], QueryKind, strict=False)
    except msgspec.ValidationError as error:
        row = int((columns.kind == index).argmax())
        reason = str(error).replace("`$.", "`")
        raise OperatorError(f"{row_place(path, row)}: {reason}; an empty cell sets no limit") from None


def _cells_of(kind: QueryKind) -> dict[str, str]:
    fields = ((name, getattr(kind, name)) for name in COLUMNS[1:])
    return {name: cell_text(value) for name, value in fields if value is not None}
