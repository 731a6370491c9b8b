"""`infaas scale` where nothing runs."""

from infaas.cli.output import EXIT_SETUP
from tests.unit.infaas.shell import Shell


def test_without_a_system_it_says_how_to_get_one(shell: Shell) -> None:
    shown = shell("scale", "status")
    assert shown.exit_code == EXIT_SETUP
    assert "infaas up" in shown.stderr
