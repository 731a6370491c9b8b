"""Checks project rules that no other linter knows; prints violations as `path:line: fault`.

    python tools/lint_house.py               # the rules; exit code 1 for a violation
    python tools/lint_house.py --figures     # the rules, with the measured sizes
    python tools/lint_house.py --docstrings  # lists first sentences that may be fragments, for a reader to judge

Rules: a public class name has one meaning in the whole tree; a function has at most 60 lines, and half of the functions
have at most 8; a file has at most 400. Tests are excluded. A function's lines run from `def` to its end, docstring
included, since a reader scrolls through all of them. pyright finds import cycles (`reportImportCycles`).
"""

import argparse
import ast
import re
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
_SHORTEST_SENTENCE: Final = 2
"""Minimum number of words: a single word repeats the name."""
_FRAGMENT: Final = re.compile(r"(?:As|At|By|For|From|In|Into|Of|On|That|To|Under|With|Within|Where|Which|Who|Whose)\b")

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
    paths = sorted(path for folder in ours for path in folder.rglob("*.py"))
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


def fragments(sources: Sequence[SourceFile]) -> Iterator[str]:
    """Yield first sentences that seem to depend on the name they document: a heuristic, for a reader to judge."""
    for source in sources:
        for line, text in _docstrings(source.tree):
            sentence = _first_sentence(text)
            if is_fragment(sentence):
                yield f"{source.place(line)}: {sentence}"


def is_fragment(sentence: str) -> bool:
    """Return true if the sentence begins with a word that joins it to the name, or is a single word."""
    return bool(_FRAGMENT.match(sentence)) or len(sentence.split()) < _SHORTEST_SENTENCE


def _docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings of modules, classes, functions and attributes, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | Definition):
            continue
        for index, statement in enumerate(node.body):
            documents = index == 0 or isinstance(node.body[index - 1], ast.Assign | ast.AnnAssign)
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if documents:
                    yield statement.lineno, text
                case _:
                    pass


def _first_sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence, at most a paragraph, on one line."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]


def main(words: Sequence[str] | None = None) -> int:
    """Check the tree that contains this file; returns the exit code."""
    parser = argparse.ArgumentParser(description="The rules of the house.")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--figures", action="store_true", help="print what was measured, too")
    parser.add_argument("--docstrings", action="store_true", help="list first sentences that look like fragments")
    asked = parser.parse_args(words)
    sources = read_sources(asked.root)
    if asked.docstrings:
        print(*fragments(sources), sep="\n")
        return 0
    broken = list(broken_rules(sources))
    if asked.figures:
        print(measure(sources))
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
