"""Prints figures of the tree: sizes, prose, folders, glossary terms and call paths.

    python tools/tree_figures.py            # of the tree that this file stands in
    python tools/tree_figures.py ../before  # of another tree, for example a worktree of an earlier commit

Only files that git tracks count, without generated ones. `make check`, `make test` and `.ci/run` print their own times.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

if __name__ == "__main__":  # the tools are no package: they run from a bare checkout, too
    sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.call_paths import PATHS, CallGraph
from tools.lint_prose import measure, read_passages, tracked_files

_KINDS: Final = {"tests": "tests", "bench": "bench", "docs": "docs", "tools": "tools"}
"""Kinds by top-level folder; Python and SQL elsewhere are the product."""
_TERM: Final = re.compile(r"^\| (?!term |---)", re.MULTILINE)


def sizes(root: Path, files: Sequence[Path]) -> dict[str, tuple[int, int]]:
    """Count files and lines of Python, SQL and Markdown by kind."""
    found: dict[str, tuple[int, int]] = {}
    for file in files:
        if file.suffix in (".py", ".sql", ".md"):
            kind = "docs" if file.suffix == ".md" else _KINDS.get(file.parts[0], "product")
            count, lines = found.get(kind, (0, 0))
            found[kind] = count + 1, lines + (root / file).read_bytes().count(b"\n")
    return dict(sorted(found.items()))


def main(words: Sequence[str] | None = None) -> int:
    """Print the figures of a tree."""
    parser = argparse.ArgumentParser(description="Figures of the tree.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    root: Path = parser.parse_args(words).root
    files = tracked_files(root)
    for kind, (count, lines) in sizes(root, files).items():
        print(f"{kind}: {count} files, {lines:,} lines")
    print("folders at the root:", len({file.parts[0] for file in files if len(file.parts) > 1}))
    print("glossary terms:", len(_TERM.findall((root / "docs" / "glossary.md").read_text())))
    prose = [passage for file in files if file.suffix in (".py", ".md") for passage in read_passages(root / file)]
    print(f"prose: {measure(prose)}")
    graph = CallGraph(root)
    for name, entry in PATHS.items():
        if graph.has(entry):
            functions, count, returns = graph.measure(entry)
            print(f"calls of {name}: {functions} functions in {count} files, {returns} returns")
        else:
            print(f"calls of {name}: no {entry}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
