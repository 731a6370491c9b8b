"""Checks project rules that no other linter knows; prints violations as `path:line: fault`.

    python tools/lint_house.py               # the rules; exit code 1 for a violation
    python tools/lint_house.py --figures     # the rules, with the measured sizes

Rules: a public class name has one meaning in the whole tree; a function has at most 60 lines, and half of the
functions have at most 8; a file has at most 400. Tests are excluded, except the programs in `tests/chaos` and
`tests/fuzz`. A function's lines run from `def` to its end, docstring included, since a reader scrolls through all of
them. pyright finds import cycles (`reportImportCycles`).
"""

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

MAX_FILE_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60
MAX_MEDIAN_LINES: Final = 8
_LEFT_OUT: Final = ("tests", "build", "dist")
_PROGRAMS: Final = ("tests/chaos", "tests/fuzz")

Definition = ast.FunctionDef | ast.AsyncFunctionDef


class SourceFile(NamedTuple):
    """Parsed module of the project."""

    path: Path
    lines: int
    tree: ast.Module

    def place(self, line: int = 1) -> str:
        """Return the place of a line in a form that editors and terminals turn into a link."""
        return f"{self.path}:{line}"


class HouseFigures(NamedTuple):
    """Measured sizes of the tree."""

    files: int
    lines: int
    longest_file: int
    functions: int
    median_function: float
    longest_function: int
    repeated_names: int

    def __str__(self) -> str:
        return (
            f"{self.files} files, {self.lines} lines, the longest {self.longest_file}; {self.functions} functions, "
            f"median {self.median_function:g} lines, the longest {self.longest_function}; "
            f"{self.repeated_names} class names that stand for several things"
        )


def read_sources(root: Path) -> list[SourceFile]:
    """Read all Python files below `root`, with relative paths, except tests and hidden folders."""
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir()]
    ours = [folder for folder in folders if folder.name not in _LEFT_OUT and not folder.name.startswith(".")]
    folders = [*ours, *(root / name for name in _PROGRAMS)]
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [_read(path, root) for path in paths]


def _read(path: Path, root: Path) -> SourceFile:
    text = path.read_text()
    return SourceFile(path.relative_to(root), len(text.splitlines()), ast.parse(text, str(path)))


def repeated_classes(sources: Sequence[SourceFile]) -> dict[str, list[str]]:
    """Return public class names that are defined in several places, with the places; nested classes count."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(source.place(node.lineno))
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


def function_lengths(sources: Sequence[SourceFile]) -> dict[str, int]:
    """Return the number of lines of each function, by its place and name."""
    return {
        f"{source.place(node.lineno)}: {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, Definition)
    }


def measure(sources: Sequence[SourceFile]) -> HouseFigures:
    """Measure the sizes that the limits apply to. There must be at least one function."""
    functions = list(function_lengths(sources).values())
    lines = [source.lines for source in sources]
    return HouseFigures(
        files=len(sources),
        lines=sum(lines),
        longest_file=max(lines),
        functions=len(functions),
        median_function=median(functions),
        longest_function=max(functions),
        repeated_names=len(repeated_classes(sources)),
    )


def broken_rules(sources: Sequence[SourceFile]) -> Iterator[str]:
    """Yield one line per violation."""
    for name, places in repeated_classes(sources).items():
        yield f"{places[0]}: class {name} is also at {', '.join(places[1:])}: one name stands for one thing"
    for place, length in function_lengths(sources).items():
        if length > MAX_FUNCTION_LINES:
            yield f"{place} has {length} lines, more than {MAX_FUNCTION_LINES}"
    for source in sources:
        if source.lines > MAX_FILE_LINES:
            yield f"{source.place()}: {source.lines} lines, more than {MAX_FILE_LINES}"
    middle = measure(sources).median_function
    if middle > MAX_MEDIAN_LINES:
        yield f"the median function has {middle:g} lines, more than {MAX_MEDIAN_LINES}"


def main(words: Sequence[str] | None = None) -> int:
    """Check the tree that contains this file; returns the exit code."""
    parser = argparse.ArgumentParser(description="The rules of the house.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--figures", action="store_true", help="print what was measured, too")
    asked = parser.parse_args(words)
    sources = read_sources(asked.root)
    broken = list(broken_rules(sources))
    if asked.figures:
        print(measure(sources))
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
