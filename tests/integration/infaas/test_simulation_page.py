"""Tests of `docs/simulation.md`: its commands run, and its tables are complete."""

import re
import shlex
from pathlib import Path

import pytest

from infaas.cli.simulate_flags import ScenarioFlags
from simulator.scenario import FaultKind
from simulator.scenario_file import ScenarioFile
from simulator.summary import Summary
from tests.unit.infaas.shell import Shell

PAGE = (Path(__file__).parents[3] / "docs" / "simulation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_simulation_page_commands_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [scenario] = blocks("json")
    Path("scenario.json").write_text(scenario)
    commands = [shlex.split(line) for block in blocks("bash") for line in block.replace("\\\n", " ").splitlines()]
    assert {words[1] for words in commands} == {"simulate", "plan"}
    for _, *words in commands:
        shown = Shell(tmp_path)(*words)
        assert shown.exit_code == 0, (words, shown.stderr, shown.exception)
    assert {file.name for file in tmp_path.rglob("*.*")} >= {"run.json", "report.html", "queries.parquet", "faults.png"}


@pytest.mark.parametrize(
    "names", [ScenarioFile.__struct_fields__, (*Summary.__struct_fields__, "violations"), tuple(FaultKind)]
)
def test_simulation_page_names_fields(names: tuple[str, ...]) -> None:
    assert {name for name in names if f"`{name}`" not in PAGE} == set()


def test_simulation_page_names_options() -> None:
    names = {"--" + name.replace("_", "-") for name in ScenarioFlags.__struct_fields__} - {"--maximum", "--settings"}
    assert {name for name in names if name not in PAGE} == set()
