"""Command line in the test's own process."""

from pathlib import Path

from typer.testing import CliRunner, Result

from infaas.cli.main import app


class Shell:
    """Runs commands in this process, with a home in which no system runs."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __call__(self, *words: str) -> Result:
        return CliRunner().invoke(app, words, env={"INFAAS_HOME": str(self._home)})
