"""Tests of the commands without a running system: exit codes, help and completion."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from infaas.cli.main import app
from infaas.cli.output import EXIT_SETUP
from infaas.up.state import LOCK, ServiceState, SystemState, claimed, write_state
from process.sockets import free_port
from store.settings import ENV as POSTGRES_ENV
from tests.unit.infaas.shell import Shell
from tests.unit.infaas.up.test_state import a_state


def test_cli_prints_version_and_short_help(shell: Shell) -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("infaas ")
    assert shell("query", "-h").exit_code == 0


@pytest.mark.parametrize(
    "words", [("status",), ("down",), ("tasks",), ("lag",), ("scale", "status"), ("dead-letters", "replay")]
)
def test_commands_without_system_suggest_infaas_up(shell: Shell, words: tuple[str, ...]) -> None:
    shown = shell(*words)
    assert shown.exit_code == EXIT_SETUP
    assert "infaas up" in shown.stderr


def test_up_refuses_missing_device_before_start(shell: Shell, tmp_path: Path) -> None:
    shown = shell("up", "--worker", "cpu:1", "--worker", "neuron:0")
    assert (shown.exit_code, "neuron:0: no Inferentia chip" in shown.stderr) == (EXIT_SETUP, True)
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}


def test_commands_explain_unreachable_postgres(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(POSTGRES_ENV, f"postgresql://nobody:secret@127.0.0.1:{free_port()}/infaas")
    shown = shell("tasks")
    assert shown.exit_code == EXIT_SETUP
    assert "INFAAS_POSTGRES" in shown.stderr
    assert "secret" not in shown.stderr


@pytest.mark.parametrize(
    ("typed", "completions"),
    [
        ("infaas reg", {"register", "registrations"}),
        ("infaas scale p", {"pin", "pause"}),
        ("infaas up --postgres-p", {"--postgres-port"}),
        ("infaas scale pin task digits --m", {"--min", "--max"}),
        ("infaas query digits --via ", {"http", "kafka"}),
    ],
)
def test_completion_offers_commands_options_and_values(typed: str, completions: set[str]) -> None:
    asked = {"_INFAAS_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    shown = CliRunner().invoke(app, env=asked, prog_name="infaas")
    assert set(shown.stdout.split()) == completions


def test_register_dry_run_needs_no_system(shell: Shell, make_model: Callable[..., Path]) -> None:
    shown = shell("register", str(make_model()), "--dry-run", "--json")
    reasons = {(row["label"], row["hardware"]): row["reason"] for row in msgspec.json.decode(shown.stdout)}
    assert reasons["onnx-fp32", "cpu"] == ""
    assert "calibrate" in reasons["onnx-int8static", "cpu"]
    assert "openvino-fp32" in shell("register", str(make_model()), "--dry-run").stdout
    assert "one model FILE" in shell("register", "--zoo", "--dry-run").stderr


def test_register_zoo_refuses_flags_without_effect(shell: Shell) -> None:
    shown = shell("register", "--zoo", "--task=digits", "--cores", "2", "--again")
    assert shown.exit_code == EXIT_SETUP
    assert "--task, --cores" in shown.stderr
    assert "--again" not in shown.stderr


def test_batch_refuses_output_inside_its_source(shell: Shell, tmp_path: Path) -> None:
    shown = shell("batch", str(tmp_path), str(tmp_path / "out.jsonl"), "--task=images")
    assert (shown.exit_code, "would be read as input" in shown.stderr) == (EXIT_SETUP, True)


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_status_hides_password_by_default(shell: Shell, tmp_path: Path, words: tuple[str, ...]) -> None:
    with claimed(tmp_path):
        write_state(tmp_path, msgspec.structs.replace(a_state(), postgres="postgresql://ann:hush@db:5432/infaas"))
        assert "ann@db:5432" in shell("status", *words).stdout
        assert "hush" not in shell("status", *words).stdout
        assert "ann:hush@db" in shell("status", "--show-secrets", *words).stdout


def test_status_shows_only_services_that_it_probed(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = ServiceState(module="workers", pid=1, restarts=0, health="", metrics="", log="")

    async def probe(state: SystemState) -> dict[str, str]:
        write_state(tmp_path, msgspec.structs.replace(state, services={**state.services, "worker-cpu-0": service}))
        return dict.fromkeys(state.services, "")

    monkeypatch.setattr("infaas.cli.status._probe", probe)
    with claimed(tmp_path):
        write_state(tmp_path, msgspec.structs.replace(a_state(), services={"gateway": service}))
        shown = shell("status", "--json")
    assert shown.exit_code == 0, shown.exception
    assert msgspec.json.decode(shown.stdout)["services"].keys() == {"gateway"}


def test_up_refuses_password_in_command_line(shell: Shell) -> None:
    shown = shell("up", "--postgres", "postgresql://ann:hush@db/infaas")
    assert (shown.exit_code, POSTGRES_ENV in shown.stderr, "hush" in shown.stderr) == (EXIT_SETUP, True, False)


def test_up_refuses_public_anonymous_gateway_before_start(shell: Shell, tmp_path: Path) -> None:
    shown = shell("up", "--gateway-host", "0.0.0.0")
    assert (shown.exit_code, "--allow-anonymous" in shown.stderr) == (EXIT_SETUP, True)
    assert "--gateway-host 0.0.0.0 admits unauthenticated clients" in shown.stderr.replace("\n", " ")
    assert {path.name for path in tmp_path.iterdir()} == {LOCK}
