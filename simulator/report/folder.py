"""Folder of a run: `run.json`, `report.html` and, on request, `queries.parquet`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulator.regret import RegretRow
from simulator.report.drawing import can_draw, draw_svg
from simulator.report.page import report_page
from simulator.report.panels import report_panels
from simulator.report.query_file import write_queries
from simulator.run_record import RUN_FILE, RunRecord, format_record
from simulator.simulation import SimulationResult

REPORT_FILE: Final = "report.html"
QUERY_FILE: Final = "queries.parquet"


def write_folder(
    folder: Path,
    record: RunRecord,
    result: SimulationResult,
    *,
    regret: Sequence[RegretRow] = (),
    queries: bool = False,
) -> list[str]:
    """Write the folder of a run, whose plots and queries are those of `result`; return the names of its files.

    The regret, if given, becomes part of the report. Without matplotlib there is no report.

    Raises:
        OperatorError: the queries are wanted, and pyarrow is not installed.
        OSError: a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_bytes(format_record(record))
    written = [RUN_FILE]
    if can_draw():
        svg = draw_svg(report_panels(result), result.scenario.warm_up_s)
        title = f"Simulation of {record.system}: {folder.name}"
        (folder / REPORT_FILE).write_text(report_page(title, record, svg, result.changes, regret), encoding="utf-8")
        written.append(REPORT_FILE)
    if queries:
        write_queries(result, folder / QUERY_FILE)
        written.append(QUERY_FILE)
    return written
