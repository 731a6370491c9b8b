"""How the commands speak: tables for people, JSON for programs, one red line for what went wrong.

Exit codes: 0 done, 1 something a person set up is not as it must be (or an outage), 2 the query or the command line
itself is wrong.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from schemas.errors import InfaasError, QueryError

EXIT_SETUP: Final = 1
EXIT_QUERY: Final = 2

_WIDE: Final = 160
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


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """A table; columns whose name ends in `>` are aligned to the right."""
    made = Table(title=title, header_style="bold", title_justify="left")
    for column in columns:
        made.add_column(column.removesuffix(">"), justify="right" if column.endswith(">") else "left")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Table) else escape(str(cell)) for cell in row))
    return made


def show(what: RenderableType) -> None:
    """Print something for a person."""
    out.print(what)


def ms(seconds: float | None) -> str:
    """Seconds as milliseconds with three digits; a dash if unknown."""
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"
