"""Tests of `infaas plan` on a small trace."""

from pathlib import Path

import msgspec
import pytest

from infaas.cli.output import EXIT_QUERY, EXIT_SETUP
from infaas.cli.simulate_errors import EXIT_MISSED
from simulator.catalogue import write_catalogue
from tests.unit.infaas.shell import Shell
from tests.unit.simulator.small_catalogue import CATALOGUE

WORKLOAD = "poisson:rate=40,seconds=5,tasks=digits,latency_ms=100"


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """The command with a load that one worker serves."""
    write_catalogue(CATALOGUE, tmp_path / "small.json")
    return ("plan", "--workload", WORKLOAD, "--catalogue", str(tmp_path / "small.json"), "--fleet", "cpu=2")


def test_plan_prints_fleets_and_commands(shell: Shell, words: tuple[str, ...]) -> None:
    shown = shell(*words, "--attainment", "0.99")
    assert shown.exit_code == 0, shown.stderr
    assert "cheapest" in shown.stdout
    *_, command = shown.stdout.splitlines()
    assert command.startswith("infaas scale pin hardware cpu")
    _, *rest = command.split()
    run = shell(*rest)
    assert (run.exit_code, "no system runs" in run.stderr) == (EXIT_SETUP, True)


def test_plan_json_holds_both_kinds(shell: Shell, words: tuple[str, ...]) -> None:
    found = msgspec.json.decode(shell(*words, "--attainment", "0.99", "--json").stdout)
    assert found["fixed"]["bounds"] == {"minimum": {"cpu": 1}, "maximum": {"cpu": 1}}
    assert found["fixed"]["commands"] == ["infaas scale pin hardware cpu --min 1 --max 1"]
    assert found["best"] in (found["fixed"], found["autoscaled"])
    assert found["fixed"] in found["tried"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--attainment", "0.9", "--budget", "0.01"), EXIT_MISSED, "no fleet"),
        (("--attainment", "0.9", "--needs", "min_accuracy=0.999"), EXIT_MISSED, "no fleet"),
        (("--attainment", "0.9", "--system", "static"), EXIT_QUERY, "bounds exist in infaas only"),
        (("--attainment", "0.9", "--fleet", "gpu=1"), EXIT_QUERY, "no 'gpu'"),
        ((), EXIT_QUERY, "--attainment"),
    ],
)
def test_plan_exit_codes(
    shell: Shell, words: tuple[str, ...], options: tuple[str, ...], code: int, message: str
) -> None:
    shown = shell(*words, *options)
    assert (shown.exit_code, message in " ".join(shown.stderr.split())) == (code, True), shown.stderr
