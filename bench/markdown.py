"""Markdown of generated pages: tables and paragraphs."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

_WIDTH: Final = 120
_RULES: Final = {"l": "---", "r": "---:"}


def table(titles: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; `sides` has a letter for each column, which is aligned to the left or right."""
    rule = "|".join(_RULES[side] for side in sides)
    return [_line(titles), f"|{rule}|", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def paragraph(text: str, indent: str = "") -> str:
    """Break a text into lines, the second and later ones indented."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent)
