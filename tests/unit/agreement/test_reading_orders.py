"""Tests of reading orders: the docstring of each package names all its modules.

The form: `Reading order: first -> second (its purpose) -> third, fourth.` Between the colon and the full stop stand the
names of all modules and packages of the folder, each once. Remarks in brackets are ignored.
"""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

REPOSITORY = next(folder for folder in Path(__file__).parents if (folder / "pyproject.toml").is_file())
PROGRAMS = [REPOSITORY / "tests" / name for name in ("chaos", "fuzz")]
PACKAGES = sorted(
    path.parent
    for root in (*REPOSITORY.iterdir(), *(REPOSITORY / "packages").iterdir(), *PROGRAMS)
    if (root / "__init__.py").is_file() and root.name != "tests"
    for path in root.rglob("__init__.py")
)
_ORDER = re.compile(r"Reading order:(.*?)\.(?:\s|$)", re.DOTALL)


def order_of(docstring: str) -> list[str]:
    """Return the names of a reading order in its order."""
    found = _ORDER.search(re.sub(r"\([^)]*\)", "", docstring))
    return re.findall(r"\w+", found[1]) if found else []


def modules_of(package: Path) -> list[str]:
    """Return the modules of a folder, including `__main__`, and its packages."""
    files = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    return files + [path.parent.name for path in package.glob("*/__init__.py")]


def test_repository_has_packages_to_check() -> None:
    assert len(PACKAGES) > 14


@pytest.mark.parametrize(
    "docstring",
    [
        "A.\n\nReading order: a -> b (what\nfor, e.g. c) -> c_d, __main__.\nMore.",
        "Reading order: a, b -> c_d -> __main__.",
    ],
)
def test_order_of_reads_from_colon_to_full_stop(docstring: str) -> None:
    assert order_of(docstring) == ["a", "b", "c_d", "__main__"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_reading_order_names_every_module_once(package: Path) -> None:
    docstring = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    named, there = Counter(order_of(docstring)), Counter(modules_of(package))
    assert sorted((named - there).elements()) == [], "named twice, or not there"
    assert sorted((there - named).elements()) == [], "not named"
