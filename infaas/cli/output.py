"""How the commands speak: tables for people, JSON for programs, one red line for what went wrong.

Exit codes: 0 done, 1 something a person set up is not as it must be (or an outage), 2 the query or the command line
itself is wrong.
"""

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import typer
from rich.console import Console, ConsoleRenderable, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from typer.core import TyperGroup

from schemas.errors import InfaasError, QueryError

EXIT_SETUP: Final = 1
EXIT_QUERY: Final = 2

_WIDE: Final = 160
_ANY_WIDTH: Final = 10_000
out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


class Commands(TyperGroup):
    """A group of commands that ends in a sentence instead of a traceback when one of our own errors is raised."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; our own errors, also those of a task group, become a red line and an exit code."""
        try:
            return super().invoke(ctx)
        except InfaasError as error:
            raise typer.Exit(report([error])) from error
        except BaseExceptionGroup as group:
            ours, others = group.split(InfaasError)
            if ours is None or others is not None:
                raise
            raise typer.Exit(report(leaves(ours))) from group


def report(errors: Sequence[InfaasError]) -> int:
    """Print what went wrong; returns the exit code."""
    for error in errors:
        err.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
    return EXIT_QUERY if all(isinstance(error, QueryError) for error in errors) else EXIT_SETUP


def leaves(group: BaseExceptionGroup[InfaasError]) -> list[InfaasError]:
    """The errors inside a group of groups."""
    found: list[InfaasError] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def show_json(value: Any) -> None:
    """Print a value or structs as indented JSON, without colours or wrapping."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    spare: Sequence[str] = (),
) -> Table:
    """A table; columns whose name ends in `>` are aligned to the right.

    Nothing is cut. Texts wrap, identifiers and numbers stay in one piece; where there is no room for that, the columns
    in `spare` are left out, the first ones first, and in the end everything folds.
    """
    cells = [list(row) for row in rows]
    left = list(columns)
    made = _made(left, cells, title)
    for column in spare:
        if _fits(made):
            break
        index = left.index(column)
        for row in (left, *cells):
            del row[index]
        made = _made(left, cells, title)
    if not _fits(made):
        for column in made.columns:
            column.no_wrap = False
    return made


def _made(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None) -> Table:
    made = Table(title=title, header_style="bold", title_justify="left", show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        is_text = " " in column or any(" " in str(row[index]) for row in rows)
        justify = "right" if column.endswith(">") else "left"
        made.add_column(column.removesuffix(">"), justify=justify, overflow="fold", no_wrap=not is_text)
    for row in rows:
        made.add_row(*(cell if isinstance(cell, ConsoleRenderable) else escape(str(cell)) for cell in row))
    return made


def _fits(made: Table) -> bool:
    """Whether the longest words of all columns have room side by side."""
    return Measurement.get(out, out.options.update_width(_ANY_WIDTH), made).minimum <= out.width


def show(what: RenderableType) -> None:
    """Print something for a person."""
    out.print(what)


def usd(amount: float) -> str:
    """An amount with two digits and never an exponent: `0.000013`."""
    return f"{Decimal(f'{amount:.2g}'):f}"


def ms(seconds: float | None) -> str:
    """Seconds as milliseconds with three digits; a dash if unknown."""
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"
