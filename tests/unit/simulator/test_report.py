"""Tests of reports: series over time, panels, the page and the file of queries."""

import math
import re
from pathlib import Path

import numpy as np
from pyarrow import parquet

from simulator.outcomes import NO_VARIANT
from simulator.report.drawing import draw_svg
from simulator.report.folder import write_folder
from simulator.report.panels import largest_lines, report_panels
from simulator.report.query_file import write_queries
from simulator.report.time_series import query_series, sampled
from simulator.run_record import RunRecord, read_record
from tests.unit.simulator.test_summary import CNN, MLP, OFFLINE, ONE, ROWS, A, L, R, a_result

RECORD = RunRecord(
    scenario={"trace": "<b>.csv"}, seeds={"0": {"attainment": 0.5, "p50_ms": None}}, versions={}, events=1, wall_s=1.0
)


def test_query_series_are_by_window() -> None:
    rows = [
        (0.0, ONE, A, MLP, 0.1),
        (0.2, ONE, R, NO_VARIANT, 0.4),
        (0.7, ONE, A, CNN, 1.0),
        (1.4, OFFLINE, L, MLP, 0.2),
    ]
    found = query_series(a_result([*rows, (2.0, ONE, A, CNN, 5.0)]))
    assert found.window_s == 0.5
    assert found.arrived.tolist() == [4, 2, 2, 2]
    assert found.answered.tolist() == [2, 0, 0, 2]
    assert (found.refused.tolist(), found.late.tolist()) == ([0, 2, 0, 0], [0, 0, 0, 2])
    np.testing.assert_array_equal(found.violations, [0.5, 0, math.nan, 0])
    np.testing.assert_allclose(found.accuracy, [0.9, 0.97, math.nan, 0.97])


def test_sampled_counts_absent_as_zero() -> None:
    found = sampled(a_result(ROWS).samples, lambda sample: sample.workers)
    assert {name: values.tolist() for name, values in found.items()} == {"cpu": [1, 2, 0]}


def test_largest_lines_sum_up_others() -> None:
    lines = {f"v{number:02}": np.array([1.0, number]) for number in range(12)}
    found = largest_lines(lines)
    assert list(found) == [f"v{number:02}" for number in range(11, 3, -1)] + ["others"]
    assert found["others"].tolist() == [4.0, 0 + 1 + 2 + 3]
    assert largest_lines(dict(list(lines.items())[:9])) == dict(list(lines.items())[:9])


def test_svg_is_reproducible() -> None:
    panels = report_panels(a_result(ROWS))[:2]
    assert draw_svg(panels) == draw_svg(panels)


def test_report_has_all_plots_and_loads_nothing(tmp_path: Path) -> None:
    result = a_result(ROWS, warm_up_s=1.0)
    assert write_folder(tmp_path, RECORD, result) == ["run.json", "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 1
    for panel in report_panels(result):
        assert f">{panel.title}<" in page
    assert "//" not in re.sub(r"/\*.*?\*/", "", page)
    assert not re.findall(r"(?:src|href)=[\"'](?!#)", page)
    assert "&lt;b&gt;.csv" in page
    assert "<td>want</td><td>cpu</td><td>2</td><td>load</td>" in page
    assert read_record(tmp_path) == RECORD


def test_query_file_has_row_for_each_query(tmp_path: Path) -> None:
    write_queries(a_result(ROWS), tmp_path / "queries.parquet")
    rows = parquet.read_table(tmp_path / "queries.parquet").to_pylist()
    assert [row["outcome"] for row in rows] == [outcome.name.lower() for _, _, outcome, _, _ in ROWS]
    assert (rows[1]["variant"], rows[1]["batch"], rows[1]["ended_s"]) == ("cnn.onnx-fp32.cpu", 4, 1.1)
    assert (rows[3]["variant"], rows[3]["reason"], rows[0]["reason"]) == (None, "concurrency_limit", None)
    assert [row["mode"] for row in rows] == ["online"] * 8 + ["offline"] * 2
