"""Tests of the options of `infaas calibrate`."""

import pytest

from infaas.cli.output import EXIT_QUERY
from tests.unit.infaas.shell import Shell


@pytest.mark.parametrize(("words", "message"), [
    (("--inputs", "digits"), "write TASK=FILE"),
    (("--trace", "absent.csv"), "absent.csv"),
    (("--set", "selectors"), "write NAME=VALUE"),
    ((), "no system runs"),
])  # fmt: skip
def test_calibrate_names_invalid_input(shell: Shell, words: tuple[str, ...], message: str) -> None:
    shown = shell("calibrate", *words)
    assert (shown.exit_code, message in shown.stderr) == (EXIT_QUERY, True), shown.stderr
