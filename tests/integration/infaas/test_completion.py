"""Tests of completion in a shell; typer starts bash to detect its version."""

from typer.testing import CliRunner

from infaas.cli.main import app


def test_completion_can_be_installed_in_a_shell() -> None:
    shown = CliRunner().invoke(app, env={"_INFAAS_COMPLETE": "source_bash"}, prog_name="infaas")
    assert "complete -o default -F _infaas_completion infaas" in shown.stdout
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout
