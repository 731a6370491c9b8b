"""Tests of `docs/simulation.md`: its commands run, and its tables are complete."""

import re
import shlex
from pathlib import Path

import pytest

from infaas.cli.simulate_flags import ScenarioFlags
from simulator.scenario import FaultKind
from simulator.scenario_file import ScenarioFile
from simulator.summary import Summary
from tests.doc_commands import changed
from tests.unit.infaas.shell import Shell

pytestmark = pytest.mark.needs_minutes

SHORTER_SCENARIO = {
    "at=40,hold=20,seconds=90": "at=15,hold=5,seconds=30",
    '"at_s": 50': '"at_s": 18',
    '"warm_up_s": 30': '"warm_up_s": 10',
}
SHORTER = {"seconds=60": "seconds=20", "at_s=40,seconds=10": "at_s=16,seconds=10"}
"""Changes of times, as the commands on the page simulate for longer than it takes to see that they run."""
PAGE = (Path(__file__).parents[3] / "docs" / "simulation.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_simulation_page_commands_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [scenario] = blocks("json")
    Path("scenario.json").write_text(changed(scenario, SHORTER_SCENARIO))
    text = changed("".join(blocks("bash")).replace("\\\n", " "), SHORTER)
    commands = [shlex.split(line) for line in text.splitlines()]
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
