"""Tests of the exit codes of commands that simulate."""

import pytest
import typer

from infaas.cli.output import EXIT_QUERY
from infaas.cli.simulate_errors import invalid_input
from schemas.errors import OperatorError

NONE = OperatorError("no worker runs")


@pytest.mark.parametrize("error", [NONE, ExceptionGroup("tasks", [ExceptionGroup("task", [NONE])])])
def test_error_of_ours_is_a_line_of_text(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, invalid_input():
        raise error
    assert ended.value.exit_code == EXIT_QUERY
    assert "no worker runs" in capsys.readouterr().err


def test_group_with_a_defect_is_raised() -> None:
    with pytest.raises(ExceptionGroup), invalid_input():
        raise ExceptionGroup("tasks", [NONE, ZeroDivisionError()])
