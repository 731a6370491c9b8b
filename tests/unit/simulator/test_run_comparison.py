"""Tests of figures over seeds and of the comparison of runs."""

import math
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import OperatorError
from simulator.figures import flatten, format_figure, mean_figure
from simulator.run_comparison import compare_runs, worse_figures
from simulator.run_record import RunRecord, read_record


def a_record(*seeds: dict[str, Any]) -> RunRecord:
    figures = {str(number): one for number, one in enumerate(seeds)}
    return RunRecord(scenario={}, seeds=figures, versions={}, events=0, wall_s=0)


def test_mean_figure_leaves_out_unknown_values() -> None:
    assert mean_figure([1.0, 3.0, math.nan]) == (2.0, pytest.approx(math.sqrt(2)))
    assert mean_figure([2.0]) == (2.0, 0.0)
    assert math.isnan(mean_figure([math.nan]).mean)


def test_flatten_joins_names() -> None:
    assert dict(flatten({"usd": 1, "workers": {"cpu": 2}})) == {"usd": 1.0, "workers.cpu": 2.0}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("attainment", 0.12345, "12.35%"),
        ("utilisation.cpu", 0.5, "50.00%"),
        ("accuracy", math.nan, "-"),
        ("queries", 3.0, "3"),
        ("usd", 12345.6, "12,346"),
        ("usd", 0.123456, "0.1235"),
    ],
)
def test_format_figure(name: str, value: float, text: str) -> None:
    assert format_figure(name, value) == text


def test_record_figures_count_absent_refusals_as_zero() -> None:
    found = a_record({"refusals": {"quota": 4}, "p50_ms": None}, {"refusals": {}, "p50_ms": 3.0}).figures()
    assert (found["refusals.quota"].mean, found["p50_ms"].mean) == (2.0, 3.0)


def test_compare_runs_gives_difference_and_ratio() -> None:
    [usd, workers] = compare_runs(a_record({"usd": 2.0}), a_record({"usd": 3.0, "workers": {"t4": 1}}))
    assert (usd.difference, usd.ratio) == (1.0, 1.5)
    assert (workers.name, workers.difference, math.isnan(workers.ratio)) == ("workers.t4", 1.0, True)


@pytest.mark.parametrize(
    ("name", "base", "other", "tolerance", "worse"),
    [
        ("violations", 0.1, 0.1, 0.0, False),
        ("violations", 0.1, 0.11, 0.0, True),
        ("violations", 0.1, 0.11, 0.2, False),
        ("violations", 0.1, 0.05, 0.0, False),
        ("violations", 0.0, 0.01, 0.5, True),
        ("attainment", 0.9, 0.89, 0.0, True),
        ("attainment", 0.9, 0.95, 0.0, False),
        ("p99_ms", 5.0, None, 0.0, True),
        ("p99_ms", None, 5.0, 0.0, False),
        ("p99_ms", None, None, 0.0, False),
    ],
)
def test_worse_figures_follow_direction(
    name: str, base: float | None, other: float | None, tolerance: float, worse: bool
) -> None:
    compared = compare_runs(a_record({name: base}), a_record({name: other}))
    assert bool(worse_figures(compared, [name], tolerance)) == worse
    assert worse_figures(compared, []) == []


def test_worse_figures_refuse_figure_without_direction() -> None:
    with pytest.raises(OperatorError, match="workers cannot be worse; use accuracy"):
        worse_figures([], ["workers", "usd"])


def test_read_record_names_missing_or_invalid_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot read .*run.json: No such file.*--output"):
        read_record(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(OperatorError, match="is not the record of a run"):
        read_record(tmp_path)
