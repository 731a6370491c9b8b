"""Runs the tests against mutants of the code behind each promise, and prints the share that they kill.

The rows of docs/testing.md name the promises, their code and their tests. Of each row's code a sample of mutants, the
same for the same code and seed, is made with the operators of Cosmic Ray, and each is given to
1. the unit tests that import its module,
2. the other unit tests of its package,
3. the integration tests that import its module, and the integration tests of the row,
until one fails. A mutant that no test kills is printed as a difference. The checkout is not touched: each of two
processes works on a copy of it.

    python -m tools.mutants --each 7 --seed 1 --root OTHER_CHECKOUT
"""

import difflib
import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import pytest
import typer
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

ROWS: Final = Path("docs/testing.md")
PROCESSES: Final = 2
LIMIT_S: Final = 240
"""A mutant whose tests take longer is killed: it hangs."""
OPERATORS: Final = (
    "AddNot",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceBinaryOperator_Add_Sub",
    "ReplaceBinaryOperator_Div_Mul",
    "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Sub_Add",
    "ReplaceBreakWithContinue",
    "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_Lt",
    "ReplaceComparisonOperator_IsNot_Is",
    "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_Lt_Gt",
    "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_NotEq_Eq",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceOrWithAnd",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ZeroIterationForLoop",
)


@dataclass(frozen=True)
class Row:
    """A promise: files or folders of its code, and the tests that hold it."""

    promise: str
    code: list[str]
    tests: list[str]


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    row: Row
    file: str
    operator: str
    occurrence: int
    difference: str


@dataclass(frozen=True)
class Outcome:
    """The stage of tests that killed a mutant (`units`, `package`, `integration`), or `survived`."""

    mutant: Mutant
    stage: str
    took_s: float


def read_rows(text: str) -> list[Row]:
    """Return the rows of a table of promises: promise, code, tests and suite."""
    rows: list[Row] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| **") and len(cells) == 4:
            promise = re.sub(r"\*\*(.*)\*\*.*", r"\1", cells[0])
            rows.append(Row(promise, re.findall(r"`([^`]+)`", cells[1]), re.findall(r"`([^`]+)`", cells[2])))
    return rows


def sample(root: Path, row: Row, each: int, seed: int) -> list[Mutant]:
    """Choose mutants of a row's code at random, as many of each file as of the others.

    A constant is a choice, not a promise: its definition is not changed, but what depends on it is.
    """
    rng = random.Random(f"{seed} {row.promise}")
    by_file = {file: list(_mutations(root / file)) for file in row.code}
    for found in by_file.values():
        rng.shuffle(found)
    chosen: list[Mutant] = []
    while len(chosen) < each and any(by_file.values()):
        for file, found in by_file.items():
            while found and len(chosen) < each:
                operator, occurrence = found.pop()
                difference = _difference(root / file, operator, occurrence)
                if difference and ": Final" not in difference:
                    chosen.append(Mutant(row, file, operator, occurrence, difference))
                    break
    return chosen


def _mutations(file: Path) -> Iterator[tuple[str, int]]:
    tree = get_ast(file.read_text())
    for name in OPERATORS:
        operator: Any = get_operator(f"core/{name}")()
        count = sum(len(list(operator.mutation_positions(node))) for node in ast_nodes(tree))
        yield from ((name, occurrence) for occurrence in range(count))


def _mutated(file: Path, operator: str, occurrence: int) -> str:
    made: Any = get_operator(f"core/{operator}")()
    return mutate_code(file.read_text(), made, occurrence) or ""


def _difference(file: Path, operator: str, occurrence: int) -> str:
    """Return the change as lines of a diff; empty if nothing changes."""
    old, new = file.read_text().splitlines(), _mutated(file, operator, occurrence).splitlines()
    lines = list(difflib.unified_diff(old, new, file.name, file.name, n=0, lineterm=""))
    return "\n".join(lines[2:])


def _importing(root: Path, layer: str, file: str) -> list[str]:
    """Return the tests of a layer that import the module of a file, or its package where that exports it."""
    module = file.removesuffix(".py").replace("/", ".")
    found = re.compile(rf"^\s*(from|import) {re.escape(module)}\b", re.M)
    tests = sorted((root / "tests" / layer).rglob("test_*.py"))
    return [str(test.relative_to(root)) for test in tests if found.search(test.read_text())]


def _stages(root: Path, mutant: Mutant) -> Iterator[tuple[str, list[str]]]:
    package = mutant.file.partition("/")[0]
    units, folder = _importing(root, "unit", mutant.file), f"tests/unit/{package}"
    if units:
        yield "units", units
    if (root / folder).is_dir():
        yield "package", [folder]
    named = [test for test in mutant.row.tests if not test.startswith("tests/system/")]
    integration = [*_importing(root, "integration", mutant.file), *named]
    if integration:
        yield "integration", integration


def _kills(root: Path, tests: list[str]) -> bool:
    suite = ["--suite=contract"] if (root / "tests" / "suites.py").exists() else []
    words = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suite, *tests)
    with subprocess.Popen(words, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return process.wait(LIMIT_S) not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        except subprocess.TimeoutExpired:
            process.terminate()
            return True


def _judge(root: Path, mutant: Mutant) -> Outcome:
    file, began = root / mutant.file, time.monotonic()
    original = file.read_text()
    file.write_text(_mutated(file, mutant.operator, mutant.occurrence))
    try:
        for stage, tests in _stages(root, mutant):
            if _kills(root, tests):
                return Outcome(mutant, stage, time.monotonic() - began)
    finally:
        file.write_text(original)
    return Outcome(mutant, "survived", time.monotonic() - began)


def _judge_all(root: Path, mutants: list[Mutant]) -> Iterator[Outcome]:
    """Judge mutants in copies of the checkout, each of which one thread uses at a time."""
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    free = Queue[Path]()

    def judge(mutant: Mutant) -> Outcome:
        copy = free.get()
        try:
            return _judge(copy, mutant)
        finally:
            free.put(copy)

    with TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(PROCESSES) as threads:
        for number in range(PROCESSES):
            copy = Path(folder) / str(number)
            for name in filter(lambda name: (root / name).is_file(), listed.splitlines()):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, copy / name)
            free.put(copy)
        for judged in as_completed([threads.submit(judge, mutant) for mutant in mutants]):
            yield judged.result()


def main(
    each: Annotated[int, typer.Option(help="mutants of each promise")] = 7,
    seed: Annotated[int, typer.Option(help="seed of the sample")] = 1,
    root: Annotated[Path, typer.Option(help="checkout whose code and tests run")] = Path(),
    only: Annotated[str, typer.Option(help="part of the promise's text")] = "",
    output: Annotated[Path | None, typer.Option(help="JSON file of the outcomes")] = None,
) -> None:
    """Run a sample of mutants, and print the killed share."""
    rows = [row for row in read_rows(ROWS.read_text()) if only in row.promise]
    mutants = [mutant for row in rows for mutant in sample(root, row, each, seed)]
    outcomes: list[Outcome] = []
    for outcome in _judge_all(root.resolve(), mutants):
        outcomes.append(outcome)
        mutant = outcome.mutant
        typer.echo(f"{len(outcomes):4}/{len(mutants)} {outcome.stage:11} {outcome.took_s:5.0f} s  {mutant.file}")
        if outcome.stage == "survived":
            typer.echo(f"     {mutant.row.promise}\n{mutant.difference}")
        if output:
            output.write_text(json.dumps([asdict(one) for one in outcomes], indent=1))
    killed = sum(outcome.stage != "survived" for outcome in outcomes)
    typer.echo(f"{killed} of {len(outcomes)} mutants killed: {killed / max(len(outcomes), 1):.1%}")


if __name__ == "__main__":
    typer.run(main)
