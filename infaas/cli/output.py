"""Output of commands: tables and progress bars for people, JSON for programs, and one red line per error.

Exit codes: 0 success; 1 a configuration error or an outage; 2 an invalid query or command line; 3 partial success.
"""

import logging
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from process.errors import leaves, os_error_words
from schemas.errors import InfaasError, QueryError

log = logging.getLogger(__name__)

EXIT_SETUP: Final = 1
EXIT_QUERY: Final = 2
EXIT_PARTIAL: Final = 3
MEASURE_AGAIN: Final = "`infaas register ... --again` measures again."
"""Remedy for profiles that are uncertain."""
_COMMANDS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_WIDE: Final = 160
_BETWEEN: Final = 3
out = Console(width=None if sys.stdout.isatty() else _WIDE)
err = Console(stderr=True)


class CommandGroup(TyperGroup):
    """Group of commands that reports our own errors as a line of text instead of a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. InfaasError and OSError, also in an exception group, become red lines and an exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader has closed the pipe: not an error to report
            raise
        except (InfaasError, OSError, BaseExceptionGroup) as error:
            if found := errors_for_people(error):
                raise typer.Exit(report(found)) from error
            raise


def errors_for_people(error: BaseException) -> list[InfaasError | OSError]:
    """Return the errors of ours in an exception or an exception group; none if it holds other ones, too."""
    if isinstance(error, BaseExceptionGroup):
        ours, others = error.split((InfaasError, OSError))
        return leaves(ours) if ours is not None and others is None else []
    return [error] if isinstance(error, InfaasError | OSError) else []


def report(errors: Sequence[InfaasError | OSError]) -> int:
    """Print the errors; returns the exit code."""
    for error in errors:
        words = os_error_words(error) if isinstance(error, OSError) else str(error)
        err.print(f"[bold red]error:[/] {plain(words)}", soft_wrap=True, highlight=False)
        log.debug("the error came from here", exc_info=error)
    return EXIT_QUERY if all(isinstance(error, QueryError) for error in errors) else EXIT_SETUP


def show_json(value: Any) -> None:
    """Print a value as indented JSON, without colours or wrapping."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2).decode() + "\n")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    optional_columns: Sequence[str] = (),
) -> Table:
    """Return a table; columns whose name ends in `>` are right-aligned.

    No text is cut: it wraps between words, so that names and numbers stay whole. If the terminal is too narrow, the
    columns in `optional_columns` are left out, in their order; if it is still too narrow, words are folded.
    """
    left, cells = list(columns), [list(row) for row in rows]
    for column in optional_columns:
        if _widths(left, cells):
            break
        index = left.index(column)
        for row in (left, *cells):
            del row[index]
    made = Table(title=title, header_style="bold", title_justify="left", show_edge=False, pad_edge=False)
    for column, width in zip(left, _widths(left, cells) or [None] * len(left), strict=True):
        justify = "right" if column.endswith(">") else "left"
        made.add_column(column.removesuffix(">"), justify=justify, overflow="fold", width=width)
    for row in cells:
        made.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
    return made


def _widths(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int]:
    """Return the column widths: the longest word plus a share of the remaining width; empty if the words do not fit."""
    texts = [[name.removesuffix(">"), *(str(row[index]) for row in rows)] for index, name in enumerate(columns)]
    widths = [max(len(word) for text in column for word in text.split() or [""]) for column in texts]
    wanted = [max(len(line) for text in column for line in text.splitlines() or [""]) for column in texts]
    room = out.width - _BETWEEN * (len(columns) - 1) - sum(widths)
    if room < 0:
        return []
    modest = sorted(range(len(columns)), key=lambda index: wanted[index] - widths[index])
    for done, index in enumerate(modest):
        more = min(wanted[index] - widths[index], room // (len(modest) - done))
        widths[index] += more
        room -= more
    return widths


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Return names in bold beside their values; facts without a value (None) are left out."""
    grid = Table.grid(padding=(0, 2))
    for name, value in pairs:
        if value is not None:
            grid.add_row(f"[bold]{plain(name)}[/]", value if isinstance(value, Table) else plain(value))
    return grid


def plain(value: object) -> str:
    """Return the text of an untrusted value, with markup and terminal control characters escaped."""
    return escape(_COMMANDS.sub(lambda found: repr(found[0])[1:-1], str(value)))


def show(content: RenderableType) -> None:
    """Print a table or text for people."""
    out.print(content)


def ms(seconds: float | None) -> str:
    """Format seconds as milliseconds with three significant digits; a dash if unknown."""
    return "-" if seconds is None else f"{seconds * 1000:.3g} ms"


def duration(seconds: float) -> str:
    """Format a duration: `9.4 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def date_time(at: datetime | None) -> str:
    """Format a time in the local time zone: `2026-01-31 12:00:00`; a dash if unknown."""
    return "-" if at is None else f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def day_time(at: datetime) -> str:
    """Format a time as `date_time` does, without the year."""
    return f"{at.astimezone():%m-%d %H:%M:%S}"


class ProgressBar:
    """Progress bar of a long operation: finished steps, number of steps, and the current step; a context manager."""

    def __init__(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=err)
        self._task: TaskID | None = None

    def __enter__(self) -> "ProgressBar":
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._progress.live.transient = kind is not None  # erase the bar before an error is printed
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a permanent line."""
        self._progress.console.print(f"[dim]note:[/] {escape(text)}", highlight=False)

    def step(self, done: int, total: int, text: str) -> None:
        """Show that `done` of `total` steps are finished."""
        if self._task is not None:
            self._progress.update(self._task, completed=done, total=total, description=text)
