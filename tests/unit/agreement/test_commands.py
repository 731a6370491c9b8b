"""The table of who may run which command names each of them once."""

import re
from pathlib import Path
from typing import Any

import typer

from infaas.cli.main import app

PAGE = Path(__file__).parents[3] / "docs" / "admin.md"


def test_each_command_stands_in_the_table_once() -> None:
    _, _, table = PAGE.read_text().partition("| commands | need |")
    lines = table.partition("\n\n")[0].splitlines()
    named = [name for line in lines for name in re.findall(r"`([a-z-]+)`", line.split("|")[1] if "|" in line else "")]
    whole: Any = typer.main.get_command(app)
    assert sorted(named) == sorted(whole.commands)
