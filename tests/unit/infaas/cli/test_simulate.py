"""Tests of `infaas simulate` on a small trace: table, JSON, exit codes."""

from pathlib import Path

import msgspec
import pytest

from infaas.cli.output import EXIT_QUERY
from infaas.cli.simulate_errors import EXIT_MISSED
from infaas.cli.simulate_flags import ScalingChoice, ScenarioFlags, parse_pairs
from schemas.errors import OperatorError
from simulator.catalogue import write_catalogue
from tests.unit.infaas.shell import Shell
from tests.unit.simulator.small_catalogue import CATALOGUE

WORKLOAD = "poisson:rate=40,seconds=5,tasks=digits,latency_ms=100"


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """The command with a load that one worker serves."""
    write_catalogue(CATALOGUE, tmp_path / "small.json")
    return ("simulate", "--workload", WORKLOAD, "--catalogue", str(tmp_path / "small.json"), "--fleet", "cpu=1")


def test_simulate_prints_figures(shell: Shell, words: tuple[str, ...]) -> None:
    shown = shell(*words)
    assert shown.exit_code == 0, shown.stderr
    assert "infaas, seeds 0" in shown.stdout
    values = {
        line.split("│")[0].strip(): line.split("│")[1].strip() for line in shown.stdout.splitlines() if "│" in line
    }
    assert values["attainment"] == "100.00%"
    assert values["usd_per_hour"] == "0.36"
    assert int(values["queries"]) == int(values["answered"]) > 100


def test_simulate_shows_regret(shell: Shell, words: tuple[str, ...], tmp_path: Path) -> None:
    shown = shell(*words, "--regret", "--output", str(tmp_path / "run"))
    assert shown.exit_code == 0, shown.stderr
    assert "regret of seed 0" in shown.stdout
    assert "Regret</h2>" in (tmp_path / "run" / "report.html").read_text()


def test_simulate_json_is_reproducible(shell: Shell, words: tuple[str, ...]) -> None:
    first, again, other = (msgspec.json.decode(shell(*words, "--json", "--seed", seed).stdout) for seed in "334")
    assert first["scenario"]["seed"] == 3
    assert first["seeds"]["3"] == again["seeds"]["3"] != other["seeds"]["4"]
    assert first["versions"].keys() >= {"infaas", "python", "numpy"}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--attainment", "0.9"), 0, ""),
        (("--attainment", "0.9", "--needs", "min_accuracy=0.999"), EXIT_MISSED, "below the objective of 0.9"),
        (("--fleet", "gpu=1"), EXIT_QUERY, "the catalogue has no 'gpu'"),
        (("--fleet", "cpu"), EXIT_QUERY, "write NAME=VALUE"),
        (("--trace", "none.csv", "--scenario", "none.json"), EXIT_QUERY, "none.json"),
        (("--set", "scaling.limits.headrom=1"), EXIT_QUERY, "no field `scaling.limits.headrom`"),
        (("--fault", "worker-dies:at=3"), EXIT_QUERY, "unknown field `at`"),
        (("--attainment", "2"), EXIT_QUERY, "--attainment"),
        (("--save-queries",), EXIT_QUERY, "needs the folder of --output"),
    ],
)
def test_simulate_exit_codes(
    shell: Shell, words: tuple[str, ...], options: tuple[str, ...], code: int, message: str
) -> None:
    shown = shell(*words, *options)
    assert (shown.exit_code, message in " ".join(shown.stderr.split())) == (code, True), shown.stderr


def test_simulate_writes_folder_and_image(shell: Shell, words: tuple[str, ...], tmp_path: Path) -> None:
    folder, image = tmp_path / "run", tmp_path / "run.png"
    shown = shell(*words, "--output", str(folder), "--save-queries", "--image", str(image))
    assert shown.exit_code == 0, shown.stderr
    assert {file.name for file in folder.iterdir()} == {"run.json", "report.html", "queries.parquet"}
    assert image.read_bytes().startswith(b"\x89PNG")


def test_simulate_without_matplotlib_writes_no_report(
    shell: Shell, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("simulator.report.folder", "simulator.report.drawing"):
        monkeypatch.setattr(f"{module}.can_draw", lambda: False)
    shown = shell(*words, "--output", str(tmp_path / "run"))
    assert (shown.exit_code, "pip install 'infaas[plots]'" in shown.stderr) == (0, True)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["run.json"]
    assert shell(*words, "--image", str(tmp_path / "run.png")).exit_code == EXIT_QUERY


def test_compare_prints_differences_and_exits_by_no_worse(shell: Shell, words: tuple[str, ...], tmp_path: Path) -> None:
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    for folder, workers in ((one, "1"), (two, "2")):
        assert shell(*words, "--fleet", f"cpu={workers}", "--scaling", "off", "--output", folder).exit_code == 0
    compare = ("simulate", "compare", one, two)
    found = msgspec.json.decode(shell(*compare, "--json").stdout)[two]["usd"]
    assert (found["ratio"], found["value"]) == (pytest.approx(2), pytest.approx(found["base"] + found["difference"]))
    assert shell(*compare, "--no-worse", "violations,usd", "--tolerance", "1.01").exit_code == 0
    missed = shell(*compare, "--no-worse", "violations,usd")
    assert (missed.exit_code, "usd is worse" in missed.stderr) == (EXIT_MISSED, True)
    assert "workers.cpu" in missed.stdout
    for wrong in ((*compare, "--no-worse", "speed"), (*compare, two), ("simulate", "compare", one, str(tmp_path))):
        assert shell(*wrong).exit_code == EXIT_QUERY


def test_options_change_scenario_file(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_bytes(b'{"workload": "poisson:rate=1", "seed": 5, "fleet": {"cpu": 2}, "scaling": {"interval_s": 2}}')
    flags = ScenarioFlags(
        scenario=file, trace="t.csv", cut="60:", fleet="cpu=3,t4=1", warm_up=9.0, scaling=ScalingChoice.GREEDY,
        fault=["worker-dies:at_s=30,number=1"], settings=["policy.tenants=[\"a\",\"b\"]"],
    )  # fmt: skip
    assert flags.document() == {
        "trace": "t.csv",
        "seed": 5,
        "cut": ["60", None],
        "fleet": {"cpu": 3, "t4": 1},
        "warm_up_s": 9.0,
        "scaling": {"interval_s": 2, "enabled": True, "policy": "greedy"},
        "faults": [{"kind": "worker-dies", "at_s": 30, "number": 1}],
        "policy": {"tenants": ["a", "b"]},
    }


def test_scaling_off_disables_autoscaler() -> None:
    assert ScenarioFlags(scaling=ScalingChoice.OFF).document() == {"scaling": {"enabled": False}}


def test_parse_pairs_reads_json_or_text() -> None:
    assert parse_pairs("a=1, b=x,c=true,d=0.5") == {"a": 1, "b": "x", "c": True, "d": 0.5}
    assert parse_pairs("a=x,b=1", single=True) == {"a": "x,b=1"}
    with pytest.raises(OperatorError, match="write NAME=VALUE"):
        parse_pairs("=1")
