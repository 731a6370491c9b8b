"""Markdown of generated pages: tables, paragraphs and plots."""

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_WIDTH: Final = 120
_RULES: Final = {"l": "---", "r": "---:"}


def table(titles: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; `sides` has a letter for each column, which is aligned to the left or right."""
    rule = "|".join(_RULES[side] for side in sides)
    return [_line(titles), f"|{rule}|", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def details(summary: str, lines: Iterable[str]) -> list[str]:
    """Return lines that are shown when the reader opens them."""
    return ["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def plot_of(page: Path) -> Path:
    """Return the file of a page's plot."""
    return page.parent / "plots" / f"{page.stem}.svg"


def plot_link(page: Path, text: str) -> str:
    """Return the image of a page's plot in Markdown, with a text in its place for screen readers."""
    return f"![{text}]({plot_of(page).relative_to(page.parent).as_posix()})"


def paragraph(text: str, indent: str = "") -> str:
    """Break a text into lines, the second and later ones indented."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)
