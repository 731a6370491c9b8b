"""Tests of traces: laws of their operations, and files that are read as they were written or refused by line."""

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import OperatorError
from schemas.query import Mode
from simulator.trace import QueryKind, Trace, read_trace, write_trace

KINDS = (
    QueryKind(task="mnist", latency_ms=50, min_accuracy=0.9),
    QueryKind(task="mnist", max_cost=0.25, batch=8, tenant="shop", target="cnn@2"),
    QueryKind(task="sentiment", mode=Mode.OFFLINE),
)
HEADER = "time_s,task,latency_ms,min_accuracy,max_cost,batch,tenant,mode"
SUFFIXES = ("csv", "csv.gz", "csv.xz", "parquet")

times = st.lists(st.floats(0, 1e6), max_size=30).map(sorted)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    time_s = draw(times)
    kind = draw(st.lists(st.integers(0, 2), min_size=len(time_s), max_size=len(time_s)))
    return Trace(np.array(time_s), np.array(kind, np.int32), draw(st.permutations(KINDS).map(tuple)))


def queries(trace: Trace) -> list[tuple[float, QueryKind]]:
    return [(time, trace.kinds[kind]) for time, kind in zip(trace.time_s.tolist(), trace.kind.tolist(), strict=True)]


def trace_of(*arrivals: tuple[float, QueryKind]) -> Trace:
    kinds = tuple(kind for _, kind in arrivals)
    return Trace(np.array([time for time, _ in arrivals]), np.arange(len(arrivals), dtype=np.int32), kinds)


def test_trace_kinds_are_distinct_used_and_in_order() -> None:
    trace = Trace(np.array([0.0, 1, 2, 3]), np.array([3, 1, 0, 1], np.int32), (KINDS[1], KINDS[0], KINDS[2], KINDS[1]))
    assert trace.kinds == (KINDS[1], KINDS[0])
    assert trace.kind.tolist() == [0, 1, 0, 1]


def test_trace_length_duration_and_rates() -> None:
    trace = trace_of((0.5, KINDS[0]), (1.5, KINDS[0]), (1.75, KINDS[1]), (4.0, KINDS[2]))
    assert (len(trace), trace.duration_s, trace.rate_per_s) == (4, 4.0, 1.0)
    assert trace.rates_per_s(2).tolist() == [1.5, 0.0, 0.5]
    empty = trace.limited(0)
    assert (len(empty), empty.duration_s, empty.rate_per_s, empty.kinds) == (0, 0.0, 0.0, ())


@pytest.mark.parametrize(
    "time_s", [[1.0, 0.5], [-1.0], [math.nan], [0.0, math.inf, math.inf], [[0.0]], [0.0, 1.0, 2.0, 3.0]]
)
def test_trace_rejects_invalid_times(time_s: list[float]) -> None:
    with pytest.raises(ValueError, match="times"):
        Trace(np.array(time_s), np.zeros(min(len(time_s), 3), np.int32), KINDS)


@pytest.mark.parametrize("kind", [3, -1])
def test_trace_rejects_unknown_kind(kind: int) -> None:
    with pytest.raises(ValueError, match="not within the 3"):
        Trace(np.zeros(1), np.array([kind], np.int32), KINDS)


@pytest.mark.parametrize(
    "fields",
    [
        {"task": "No Name"},
        {"latency_ms": -1.0},
        {"latency_ms": math.inf},
        {"min_accuracy": 1.01},
        {"max_cost": math.nan},
        {"batch": 0},
        {"tenant": "A"},
        {"target": "a/b"},
    ],
    ids=str,
)
def test_query_kind_rejects_value_out_of_range(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(fields))} must be"):
        QueryKind(**({"task": "mnist"} | fields))  # pyright: ignore[reportArgumentType]


@given(traces(), st.floats(0.01, 100))
def test_faster_divides_times_and_keeps_kinds(trace: Trace, factor: float) -> None:
    fast = trace.faster(factor)
    assert fast.kinds == trace.kinds
    assert fast.kind.tolist() == trace.kind.tolist()
    np.testing.assert_allclose(fast.faster(1 / factor).time_s, trace.time_s, rtol=1e-12, atol=1e-9)


@given(traces(), st.lists(traces(), max_size=3))
def test_overlaid_keeps_each_query(trace: Trace, others: list[Trace]) -> None:
    together = queries(trace.overlaid(others))
    assert together == sorted(
        (query for each in (trace, *others) for query in queries(each)), key=lambda query: query[0]
    )


@given(traces(), st.floats(0, 1e6), st.floats(1e-3, 1e6))
def test_cut_parts_partition_trace(trace: Trace, from_s: float, length_s: float) -> None:
    to_s = from_s + length_s
    middle = trace.cut(from_s, to_s)
    inside = [(time - from_s, kind) for time, kind in queries(trace) if from_s <= time < to_s]
    assert queries(middle) == inside
    before = trace.cut(0, from_s) if from_s else trace.limited(0)
    assert len(before) + len(middle) + len(trace.cut(to_s)) == len(trace)


@given(traces(), st.integers(0, 40))
def test_limited_keeps_first_queries(trace: Trace, count: int) -> None:
    assert queries(trace.limited(count)) == queries(trace)[:count]


@pytest.mark.parametrize(
    ("operation", "values"),
    [("faster", (0,)), ("faster", (math.inf,)), ("cut", (2, 2)), ("cut", (-1,)), ("limited", (-1,))],
)
def test_operation_refuses_value_out_of_range(operation: str, values: tuple[float, ...]) -> None:
    with pytest.raises(OperatorError, match="trace"):
        getattr(trace_of((0, KINDS[0])), operation)(*values)


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(trace=traces())
def test_written_trace_is_read_unchanged(tmp_path_factory: pytest.TempPathFactory, suffix: str, trace: Trace) -> None:
    folder = tmp_path_factory.mktemp("traces")
    write_trace(trace, folder / f"a.{suffix}")
    read = read_trace(folder / f"a.{suffix}")
    assert queries(read) == queries(trace)
    assert read.kinds == trace.kinds
    write_trace(read, folder / f"b.{suffix}")
    assert (folder / f"a.{suffix}").read_bytes() == (folder / f"b.{suffix}").read_bytes()


def test_read_trace_accepts_spreadsheet_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ['0,"mnist",50.0,,,,"",', "0.25, mnist ,50,,,1,,online"]
    path.write_bytes(("\ufeff" + "\r\n".join(['time_s,"task"' + HEADER[11:], *rows]) + "\r\n").encode())
    assert queries(read_trace(path)) == [
        (0, QueryKind(task="mnist", latency_ms=50)),
        (0.25, QueryKind(task="mnist", latency_ms=50)),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "add time_s, task"),
        ("time_s,task\n0,a\n", "add latency_ms"),
        (HEADER + ",color\n", "take out color"),
        (HEADER + ",mode\n", "take out the repeated"),
        ("task,time_s" + HEADER[11:] + "\n", ":1: the first column must be time_s"),
        (HEADER + "\n0,a,,,,,,\nx,a,,,,,,\n", ":3: time_s must be a number"),
        (HEADER + "\n0,a,,,,,,\n\n", ":3: time_s must be a number"),
        (HEADER + "\n-1,a,,,,,,\n", ":2: time_s is -1 after 0: .* sort the rows"),
        (HEADER + "\n1,a,,,,,,\n0.5,a,,,,,,\n", ":3: time_s is 0.5 after 1"),
        (HEADER + "\n1,a,,,,,,\nnan,a,,,,,,\n", ":3: time_s is nan"),
        (HEADER + "\n1,a,,,,,,\n2,a,,,,,\n", ":3: there are 7 cells, but 8"),
        (HEADER + "\n1,a,,,,,,\n2,a,,,,,,batch\n", ":3: Invalid enum value 'batch' - at `mode`"),
        (HEADER + "\n1,a,,,,,,\n2,a,fast,,,,,\n", ":3: Expected `float . null`, got `str` - at `latency_ms`"),
        (HEADER + "\n1,a,,2,,,,\n", ":2: min_accuracy must be 0 to 1, not 2"),
        (HEADER + "\n1,,,,,,,\n", ":2: .*missing required field `task`"),
    ],
)
def test_read_trace_refuses_csv_and_names_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(OperatorError, match=message) as raised:
        read_trace(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_read_trace_refuses_damaged_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(gzip.compress(b"\xff" * 100)[:-4] if suffix == "csv.gz" else b"\xff" * 100)
    with pytest.raises(OperatorError, match=r"t\.(csv|parquet).* (is damaged|is not a Parquet)"):
        read_trace(path)


def test_read_trace_refuses_parquet_and_names_row(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    columns = dict.fromkeys(HEADER.split(","), pa.nulls(2, pa.string()))
    columns |= {"time_s": pa.array([0, 1]), "task": pa.array(["a", "a"]), "batch": pa.array([2.0, 2.5])}
    parquet.write_table(pa.table(columns), path)
    with pytest.raises(OperatorError, match=r"t\.parquet, row 2: Expected `int`, got `str` - at `batch`"):
        read_trace(path)


def test_read_trace_refuses_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"must end in \.csv"):
        read_trace(tmp_path / "t.json")
