"""Tests of the table of commands in `docs/admin.md`."""

import re
from pathlib import Path
from typing import Any

import typer

from infaas.cli.main import app

PAGE = Path(__file__).parents[3] / "docs" / "admin.md"


def test_admin_page_lists_each_command_once() -> None:
    _, _, table = PAGE.read_text().partition("| commands | need |")
    lines = table.partition("\n\n")[0].splitlines()
    named = [name for line in lines for name in re.findall(r"`([a-z-]+)`", line.split("|")[1] if "|" in line else "")]
    whole: Any = typer.main.get_command(app)
    assert sorted(named) == sorted(whole.commands)
