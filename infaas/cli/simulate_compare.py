"""`infaas simulate compare`: the figures of runs beside each other.

Exit codes: 0, or 1 if a figure of `--no-worse` is worse, or 2 for invalid input.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from infaas.cli.connect import Json
from infaas.cli.output import err, show, show_json, table
from infaas.cli.simulate_errors import EXIT_MISSED, invalid_input
from schemas.errors import OperatorError
from simulator.figures import format_figure
from simulator.run_comparison import ComparedFigure, compare_runs, worse_figures
from simulator.run_record import read_record


def compare(
    base: Annotated[Path, typer.Argument(help="Folder of the run to compare with.")],
    others: Annotated[list[Path], typer.Argument(help="Folders of other runs.")],
    no_worse: Annotated[
        str, typer.Option("--no-worse", metavar="FIGURE,...", help="Exit with code 1 if one of these is worse.")
    ] = "",
    tolerance: Annotated[float, typer.Option(min=0, help="Share of the base by which a figure may be worse.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Compare the figures of runs, written by `--output`, with those of the first.

    Exit code 1: a figure of --no-worse is worse. Exit code 2: an option or a folder is invalid.
    """
    with invalid_input():
        first = read_record(base)
        compared = {str(folder): compare_runs(first, read_record(folder)) for folder in others}
        if len(compared) < len(others):
            raise OperatorError("a folder is named twice")
        names = [name.strip() for name in no_worse.split(",") if name.strip()]
        worse = {folder: worse_figures(figures, names, tolerance) for folder, figures in compared.items()}
    if as_json:
        show_json({folder: {one.name: _plain(one) for one in figures} for folder, figures in compared.items()})
    else:
        show(_table(str(base), compared))
    lines = [f"{folder}: {_text(one)}" for folder, figures in worse.items() for one in figures]
    for line in lines:
        err.print(line, highlight=False, markup=False, soft_wrap=True)
    if lines:
        raise typer.Exit(EXIT_MISSED)


def _plain(one: ComparedFigure) -> dict[str, Any]:
    return {
        "base": one.base.mean,
        "value": one.other.mean,
        "deviation": one.other.spread,
        "difference": one.difference,
        "ratio": one.ratio,
    }


def _text(one: ComparedFigure) -> str:
    return f"{one.name} is worse: {_shown(one, one.other.mean)} instead of {_shown(one, one.base.mean)}"


def _table(base: str, compared: dict[str, list[ComparedFigure]]) -> Table:
    names = list(dict.fromkeys(one.name for figures in compared.values() for one in figures))
    by_name = [{one.name: one for one in figures} for figures in compared.values()]
    columns = ["figure", f"{base}>"]
    for folder in compared:
        columns += [f"{folder}>", "difference>", "ratio>"]
    return table(columns, [_row(name, [figures.get(name) for figures in by_name]) for name in names])


def _row(name: str, figures: Sequence[ComparedFigure | None]) -> list[str]:
    base = next(_shown(one, one.base.mean) for one in figures if one is not None)
    cells = [name, base]
    for one in figures:
        cells += ["-"] * 3 if one is None else [_shown(one, one.other.mean), _signed(one), f"{one.ratio:.3f}"]
    return cells


def _signed(one: ComparedFigure) -> str:
    return ("+" if one.difference > 0 else "") + _shown(one, one.difference)


def _shown(one: ComparedFigure, value: float) -> str:
    return format_figure(one.name, value)
