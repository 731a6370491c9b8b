"""Checks the English of docstrings, comments and documentation; prints each fault as `path:line: fault`.

    python tools/lint_prose.py                    # the whole tree; exit code 1 for a fault
    python tools/lint_prose.py broker docs/jobs.md  # some folders or files
    python tools/lint_prose.py --figures          # prints the rates, too

Rules: a docstring begins with neither What, Who, Whether nor How; `what` occurs at most 3 times in 1,000 words of
docstrings; words of `LISTED` occur nowhere. Text in backquotes and in fenced blocks is code, not prose.
"""

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

MAX_WHAT: Final = 3.0
"""Maximum occurrences of `what` in 1,000 words of docstrings."""
LISTED: Final = (
    "told", "said", "anew", "as far as", "so many", "those that", "those who", "lately", "the like of", "who asks",
    "whoever asks", "whoever asked",
)  # fmt: skip
_BEGINS: Final = re.compile(r"(?:What|Who|Whose|Whom|Whether|How)\b")
_WHAT: Final = re.compile(r"\bwhat\b", re.IGNORECASE)
_LISTED: Final = re.compile(r"\b(?:" + "|".join(LISTED).replace(" ", r"\s+") + r")\b", re.IGNORECASE)
_CODE: Final = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z'-]*")
_FRAGMENT: Final = re.compile(r"(?:As|At|By|For|From|In|Into|Of|On|That|To|Under|With|Within|Where|Which|Who|Whose)\b")
_SHORTEST_SENTENCE: Final = 2
"""Number of words; a single word adds nothing to the name."""
_GENERATED: Final = ("_pb2.py", "_pb2.pyi", ".lock")


class Passage(NamedTuple):
    """A docstring, a comment or a page, with its first line."""

    kind: str
    path: Path
    line: int
    text: str

    def place(self, position: int = 0) -> str:
        """Return the place of a character in a form that editors and terminals turn into a link."""
        return f"{self.path}:{self.line + self.text.count(chr(10), 0, position)}"


class ProseFigures(NamedTuple):
    """Rates of a tree."""

    words: int
    docstrings: int
    what: int
    questions: int
    listed: int

    @property
    def what_rate(self) -> float:
        """Occurrences of `what` in 1,000 words of docstrings."""
        return 1000 * self.what / max(1, self.words)

    def __str__(self) -> str:
        return (
            f"{self.docstrings} docstrings of {self.words} words: {self.what_rate:.1f} in 1,000 are 'what', "
            f"{100 * self.questions / max(1, self.docstrings):.1f} % begin with a question word; "
            f"{self.listed} listed words in docstrings, comments and pages"
        )


def read_passages(path: Path) -> list[Passage]:
    """Read the prose of a Python file or a Markdown page, with code replaced by blanks."""
    text = path.read_text()
    if path.suffix == ".md":
        return [Passage("page", path, 1, _without_code(text))]
    strings = [Passage("docstring", path, line, _without_code(text)) for line, text in docstrings(ast.parse(text))]
    comments = [
        Passage("comment", path, token.start[0], _without_code(token.string))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    return strings + comments


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield docstrings of modules, classes, functions and attributes, with their lines."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for statement in node.body:
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text
                case _:
                    pass


def measure(passages: Sequence[Passage]) -> ProseFigures:
    """Count words and faults."""
    texts = [passage.text for passage in passages if passage.kind == "docstring"]
    return ProseFigures(
        words=sum(len(_WORD.findall(text)) for text in texts),
        docstrings=len(texts),
        what=sum(len(_WHAT.findall(text)) for text in texts),
        questions=sum(bool(_BEGINS.match(text.lstrip())) for text in texts),
        listed=sum(len(_LISTED.findall(passage.text)) for passage in passages),
    )


def faults(passages: Sequence[Passage]) -> Iterator[str]:
    """Yield a line for each passage or rate that breaks a rule."""
    for passage in passages:
        if passage.kind == "docstring" and (begin := _BEGINS.match(passage.text.lstrip())):
            yield f"{passage.place()}: a docstring begins with {begin[0]!r}; name the subject"
        for match in _LISTED.finditer(passage.text):
            yield f"{passage.place(match.start())}: {match[0]!r} is a listed word; name the thing"
    figures = measure(passages)
    if figures.what_rate > MAX_WHAT:
        for passage in passages:
            if passage.kind == "docstring":
                for match in _WHAT.finditer(passage.text):
                    yield f"{passage.place(match.start())}: 'what' instead of a noun"
        yield f"'what' occurs {figures.what_rate:.1f} times in 1,000 words of docstrings, more than {MAX_WHAT:g}"


def fragments(root: Path, files: Sequence[Path]) -> Iterator[str]:
    """Yield first sentences that seem to depend on the name they document: a heuristic, for a reader to judge."""
    for path in files:
        if path.suffix == ".py" and path.parts[0] != "tests":
            for line, text in docstrings(ast.parse((root / path).read_text())):
                if is_fragment(sentence := _first_sentence(text)):
                    yield f"{path}:{line}: {sentence}"


def is_fragment(sentence: str) -> bool:
    """Return true if the sentence begins with a word that joins it to the name, or is a single word."""
    return bool(_FRAGMENT.match(sentence)) or len(sentence.split()) < _SHORTEST_SENTENCE


def _first_sentence(text: str) -> str:
    """Return the text up to the first full stop that ends a sentence, and at most a paragraph, on one line."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]


def _without_code(text: str) -> str:
    return _CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def tracked_files(root: Path, chosen: Sequence[str] = ()) -> list[Path]:
    """Return the files that git tracks below a root, relative to it, without generated ones; all if none are chosen."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "--", *chosen], capture_output=True, text=True, check=True, timeout=60
    )
    return [Path(line) for line in listed.stdout.splitlines() if not line.endswith(_GENERATED)]


def main(words: Sequence[str] | None = None) -> int:
    """Check the tree that contains this file, or parts of it; returns the exit code."""
    parser = argparse.ArgumentParser(description="The English of docstrings, comments and pages.")
    parser.add_argument("paths", nargs="*", help="folders or files below the root; all if absent")
    parser.add_argument("--figures", action="store_true", help="print rates, too")
    parser.add_argument("--fragments", action="store_true", help="list first sentences that look like fragments")
    asked = parser.parse_args(words)
    root = Path(__file__).parents[1]
    tracked = [path for path in tracked_files(root, asked.paths) if (root / path).exists()]
    files = [path for path in tracked if path.suffix in (".py", ".md")]
    if asked.fragments:
        print(*fragments(root, files), sep="\n")
        return 0
    passages = [passage for path in files for passage in read_passages(root / path)]
    passages = [passage._replace(path=passage.path.relative_to(root)) for passage in passages]
    broken = list(faults(passages))
    if asked.figures:
        print(measure(passages))
    for line in broken:
        print(line, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
