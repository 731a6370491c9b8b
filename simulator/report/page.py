"""Report of a run as one HTML page that loads nothing."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import msgspec

from simulator.figures import format_figure
from simulator.regret import RegretRow
from simulator.report.regret_table import COLUMNS, NUMBERS, regret_cells
from simulator.run_record import RunRecord
from simulator.simulation import ScaleChange

_STYLE: Final = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .15em .8em .15em 0; text-align: left }
tr { border-bottom: 1px solid #ddd } td.number { text-align: right; font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto } pre { background: #f5f5f5; padding: 1em; overflow-x: auto }
"""


def report_page(
    title: str, record: RunRecord, svg: str, changes: Sequence[ScaleChange], regret: Sequence[RegretRow] = ()
) -> str:
    """Return the page of a run with its plots, the changes of the scale, and its regret; a deterministic text."""
    figures = [
        (name, format_figure(name, one.mean), f"±{format_figure(name, one.spread)}" if len(record.seeds) > 1 else "")
        for name, one in record.figures().items()
    ]
    scenario = msgspec.json.format(msgspec.json.encode(record.scenario), indent=2).decode()
    versions = ", ".join(f"{name} {one}" for name, one in record.versions.items())
    rows = [(f"{one.at_s:.2f}", one.action, one.name, one.worker, one.reason) for one in changes]
    return "\n".join(
        (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
            f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>",
            f"<p>Seeds {escape(', '.join(record.seeds))}; the plots and the changes are of the first.</p>",
            _table(("figure", "value", "deviation"), figures, numbers=(1, 2)),
            f"<h2>Over time</h2>{svg}",
            f"<h2>Changes of the scale</h2>{_table(('second', 'action', 'of', 'worker', 'reason'), rows, (0,))}",
            f"<h2>Regret</h2>{_table(COLUMNS, regret_cells(regret), NUMBERS)}" if regret else "",
            f"<h2>Scenario</h2><pre>{escape(scenario)}</pre><p>{escape(versions)}</p></body></html>\n",
        )
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f"<table><tr>{head}</tr>{''.join(_row(row, numbers) for row in rows)}</table>"


def _row(cells: Sequence[str], numbers: Sequence[int]) -> str:
    return "<tr>" + "".join(_cell(cell, number=place in numbers) for place, cell in enumerate(cells)) + "</tr>"


def _cell(text: str, *, number: bool) -> str:
    return f"<td{' class=number' if number else ''}>{escape(text)}</td>"
