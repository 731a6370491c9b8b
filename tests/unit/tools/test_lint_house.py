"""Tests of the house linter on small trees that break one rule each."""

from pathlib import Path

import pytest

from tools.lint_house import MAX_FILE_LINES, MAX_FUNCTION_LINES, main

GOOD = '''"""A module."""


class Thing:
    """What this file is about."""


def work() -> None:
    """Work."""


def rest() -> None:
    """Rest."""


def play() -> None:
    """Play."""
'''


def _function(name: str, lines: int) -> str:
    return f"def {name}() -> None:\n" + "    work()\n" * (lines - 1)


def _write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    _write(tmp_path, "shop/things.py", GOOD)
    return tmp_path


def test_lint_house_passes_and_prints_figures(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(tree), "--figures"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(
        "1 files, 17 lines, the longest 17; 3 functions, median 2 lines, the longest 2; 0 class"
    )
    assert printed.err == ""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("class Thing:\n    pass\n", "shop/more.py:1: class Thing is also at shop/things.py:4"),
        ("class Outer:\n    class Thing:\n        pass\n", "shop/more.py:2: class Thing is also at shop/things.py:4"),
        (_function("long", MAX_FUNCTION_LINES + 1), "shop/more.py:1: long has 61 lines, more than 60"),
        ("async " + _function("long", MAX_FUNCTION_LINES + 1), "shop/more.py:1: long has 61 lines, more than 60"),
        ("work = 1\n" * (MAX_FILE_LINES + 1), "shop/more.py:1: 401 lines, more than 400"),
        ("".join(_function(name, 9) for name in "abcd"), "the median function has 9 lines, more than 8"),
    ],
)
def test_lint_house_names_the_broken_rule(
    tree: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    _write(tree, "shop/more.py", text)
    assert main(["--root", str(tree)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(complaint)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shop/more.py", "class _Thing:\n    pass\n"),
        ("shop/more.py", _function("long", MAX_FUNCTION_LINES)),
        ("shop/more.py", "work = 1\n" * MAX_FILE_LINES),
        ("tests/test_things.py", GOOD),
        (".venv/lib/things.py", GOOD),
    ],
)
def test_lint_house_accepts_limits_and_exceptions(tree: Path, name: str, text: str) -> None:
    _write(tree, name, text)
    assert main(["--root", str(tree)]) == 0
