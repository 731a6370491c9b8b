"""Tests of `infaas tenants`: values that are refused before anything is sent."""

from pathlib import Path

import pytest

from infaas.cli.output import EXIT_SETUP
from tests.unit.infaas.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_tenants_create_refuses_two_passwords(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("planted-word")
    said = shell("tenants", "create", "acme", "--kafka-user", "acme", "--scram", "--password-file", str(file))
    assert said.exit_code == EXIT_SETUP
    assert "give only one of --scram and --password-file" in said.stderr.replace("\n", " ")
    assert "planted-word" not in said.output
