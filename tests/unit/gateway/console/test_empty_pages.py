"""Tests of pages without content: each empty block says what to do next."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import asdict

from admin.catalog import ListedModel, ListedTask
from admin.versions import ModelHistory
from infaas.cli.main import app
from schemas.access import ANYONE, Principal, Role
from schemas.errors import NotFound
from schemas.versions import Rollout
from tests.example_rows import a_task, an_architecture
from tests.unit.gateway.console.visits import Site, page_at

TEMPLATES = Path(__file__).parents[4] / "gateway" / "console" / "templates"
DOCUMENTATION = "/docs"
EMPTY_BLOCK = re.compile(r'<p class="empty">(.*?)</p>', re.DOTALL)
TENANT = Principal("key", "acme", frozenset({Role.QUERY}))
TASK = {"tasks.list": [ListedTask(**asdict(a_task()))], "tasks.compare": NotFound("no variant is ready")}
MODEL = {
    "models.list": [ListedModel(**asdict(an_architecture()))],
    "models.history": ModelHistory(
        versions=(an_architecture(),), rollout=Rollout(model="mlp", serving=1), events=(), comparisons=()
    ),
}
CASES: list[tuple[str, Principal, Mapping[str, Any], int]] = [
    ("/console", ANYONE, {}, 3),
    ("/console", TENANT, {}, 1),
    ("/console/tasks/digits", ANYONE, TASK, 2),
    ("/console/models", ANYONE, {}, 1),
    ("/console/models", TENANT, {}, 1),
    ("/console/models/mlp", ANYONE, MODEL, 2),
    ("/console/scale", ANYONE, {}, 5),
    ("/console/jobs", ANYONE, {}, 3),
    ("/console/jobs?state=failed", ANYONE, {}, 3),
    ("/console/dead-letters", ANYONE, {}, 1),
    ("/console/dead-letters?task=digits", ANYONE, {}, 1),
    ("/console/keys", ANYONE, {}, 1),
    ("/console/tenants", ANYONE, {}, 1),
    ("/console/audit", ANYONE, {}, 1),
    ("/console/audit?verb=pin", ANYONE, {}, 1),
]
"""Address, caller, results other than those of an empty system, and number of empty blocks."""


@pytest.mark.parametrize(("path", "caller", "results", "blocks"), CASES)
async def test_empty_block_says_what_to_do_next(
    path: str, caller: Principal, results: Mapping[str, Any], blocks: int
) -> None:
    site = Site(results, caller)
    html = await site.page(path)
    found = EMPTY_BLOCK.findall(html)
    assert len(found) == blocks
    for block in found:
        links, commands = re.findall(r'href="([^"]+)"', block), re.findall(r"<code>infaas ([^<]+)</code>", block)
        assert links or commands, block
        for address, _, anchor in (link.partition("#") for link in links if link != DOCUMENTATION):
            assert not anchor or f'id="{anchor}"' in (await site.page(address) if address else html), block
        for command in commands:
            check_command(command.split())


async def test_empty_blocks_of_all_templates_are_tested() -> None:
    tested = {(await page_at(path))[0].template for path, *_ in CASES}
    assert tested == {path.name for path in TEMPLATES.iterdir() if EMPTY_BLOCK.search(path.read_text())}


def check_command(words: Sequence[str]) -> None:
    """Assert that a command of `infaas` exists and has the options that are named."""
    command: Any = typer.main.get_command(app)
    options = [word for word in words if word.startswith("--")]
    for word in words[: words.index(options[0]) if options else None]:
        if commands := getattr(command, "commands", None):
            assert word in commands, words
            command = commands[word]
    assert not hasattr(command, "commands"), words
    assert set(options) <= {name for one in command.params for name in one.opts}, words
