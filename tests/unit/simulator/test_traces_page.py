"""Tests of docs/traces.md: its examples run, and its tables name every column, process and field."""

import re
from pathlib import Path

import pytest

from simulator.trace import read_trace
from simulator.trace_columns import COLUMNS
from simulator.workloads.description import PROCESSES, parse_workload, read_workload
from simulator.workloads.mix import Mix
from simulator.workloads.workload import QueryStream, generate

PAGE = (Path(__file__).parents[3] / "docs" / "traces.md").read_text()


def example(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return text


def test_csv_and_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(example("csv"))
    exec(example("python"), {})
    assert len(read_trace(tmp_path / "both.parquet")) == 6


@pytest.mark.parametrize("text", example("text").splitlines())
def test_text_example_generates_queries(text: str) -> None:
    assert len(generate(parse_workload(text), 1)) > 1000


def test_json_example_generates_both_streams(tmp_path: Path) -> None:
    path = tmp_path / "workload.json"
    path.write_text(example("json"))
    trace = generate(read_workload(str(path)), 1)
    assert {kind.mode for kind in trace.kinds} == {"online", "offline"}
    assert max(kind.batch for kind in trace.kinds) > 1


def test_tables_name_each_column_process_and_field() -> None:
    rows = re.findall(r"^\| `([\w-]+)`", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted([*COLUMNS, *PROCESSES, *QueryStream.__struct_fields__, *Mix.__struct_fields__])


@pytest.mark.parametrize("name", PROCESSES)
def test_tables_name_each_parameter_of_process(name: str) -> None:
    (parameters,) = re.findall(rf"^\| `{name}` \| ([^|]*) \|", PAGE, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", parameters)) == PROCESSES[name].__struct_fields__
