"""Tests of shell commands in the documentation: their syntax, in prose too, and the table of tests that run them."""

import re
import shlex
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import typer
import yaml

from infaas.cli.main import app
from tests.doc_commands import BLOCKS, ROOT, Block, inline_code

_SYSTEM: Final = "tests/system/infaas/"
_INTEGRATION: Final = "tests/integration/"
_NETWORK: Final = "downloads packages or models, which a test must not"
_LONG: Final = "a verb of the Makefile, of which the suite itself is one; `tests/unit/tools` checks that each exists"


def _blocks(page: str, *numbers: int) -> tuple[str, ...]:
    return tuple(f"{page}#{number}" for number in numbers)


_TESTS: Final[Mapping[str, tuple[str, ...]]] = {
    f"{_SYSTEM}test_readme.py": _blocks("README.md", 2, 3, 4),
    f"{_SYSTEM}test_doc_commands.py": (
        *_blocks("docs/batch.md", 0),
        *_blocks("docs/clients.md", 1),
        *_blocks("docs/jobs.md", 0),
        *_blocks("docs/rollout.md", 0, 1),
        *_blocks("docs/security.md", 2, 3, 5, 9),
    ),
    f"{_SYSTEM}test_cascade.py": _blocks("docs/models.md", 3),
    f"{_SYSTEM}test_generation.py": (
        *_blocks("docs/batch.md", 1),
        *_blocks("docs/generation.md", 0, 2),
        *_blocks("docs/models.md", 1),
    ),
    f"{_SYSTEM}test_mcp.py": _blocks("docs/mcp.md", 0),
    f"{_SYSTEM}test_remote_client.py": (*_blocks("docs/admin.md", 0, 1), *_blocks("docs/models.md", 0)),
    f"{_SYSTEM}test_replicas.py": _blocks("docs/security.md", 0),
    f"{_SYSTEM}test_secured.py": _blocks("docs/security.md", 6, 7, 8),
    f"{_SYSTEM}traced_queries.py": _blocks("docs/tracing.md", 0, 1),
    f"{_INTEGRATION}gateway/jobs/test_notices.py": _blocks("docs/jobs.md", 1),
    f"{_INTEGRATION}gateway/test_authentication.py": _blocks("docs/security.md", 4),
    f"{_INTEGRATION}gateway/test_tls.py": _blocks("docs/security.md", 1),
    f"{_INTEGRATION}infaas/test_models_page.py": _blocks("docs/models.md", 4, 5, 6),
    f"{_INTEGRATION}infaas/test_record.py": _blocks("docs/traces.md", 0),
    f"{_INTEGRATION}infaas/test_scale.py": _blocks("docs/operation.md", 1),
    f"{_INTEGRATION}infaas/test_simulation_page.py": _blocks("docs/simulation.md", *range(8)),
}
RUN: Final[Mapping[str, str]] = {name: test for test, names in _TESTS.items() for name in names}
"""Test that runs a block of commands."""

NOT_RUN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("CONTRIBUTING.md#0", "README.md#0", "README.md#1"), _LONG),
    **dict.fromkeys(("docs/clients.md#0", "docs/models.md#2", "docs/openai.md#0"), _NETWORK),
    "docker/README.md#0": "needs a container engine; `make images` starts what the images hold",
    "docker/README.md#1": "needs a cluster; `tests/unit/infaas/test_k8s.py` checks the manifests",
    "docker/README.md#2": "needs Ray and several machines; `bench/scale/ray_cluster.py` starts four nodes",
    "docs/calibration.md#0": "takes 20 minutes; `tests/system/infaas/test_calibrate.py` runs a shorter one",
    "docs/generation.md#1": "needs 223 labelled rows; `tests/system/infaas/test_generation.py` has others",
    "docs/operation.md#0": "needs four cores and a GPU; `tests/system/infaas/test_scaling.py` has one worker, then two",
}
"""Reason why no test runs a block as it is written."""


INLINE: Final = inline_code("infaas")
COMPOSE: Final = inline_code("docker compose")


def test_each_block_is_run_or_has_a_reason() -> None:
    assert RUN.keys() & NOT_RUN.keys() == set()
    assert sorted([*RUN, *NOT_RUN]) == sorted(block.name for block in BLOCKS)


@pytest.mark.parametrize("name", RUN)
def test_test_that_runs_a_block_names_its_page(name: str) -> None:
    assert Path(name.partition("#")[0]).name in (ROOT / RUN[name]).read_text()


@pytest.mark.parametrize("name", NOT_RUN)
def test_reason_names_existing_files(name: str) -> None:
    named = re.findall(r"`((?:tests|bench)/[\w./]+)`", NOT_RUN[name])
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.commands()], ids=lambda block: block.name)
def test_documented_commands_parse(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command, group, argument and option exists, and the values have the right types; nothing is executed."""
    monkeypatch.chdir(tmp_path)
    whole: Any = typer.main.get_command(app)

    def not_executed(*_: object, **_options: object) -> None:
        pass

    monkeypatch.setattr(type(whole.make_context("infaas", ["status"])), "invoke", not_executed)
    for words in block.commands():
        for file in (word for word in words if re.fullmatch(r"[\w-]+(\.\w+)+", word)):
            Path(file).touch()
        whole.main(args=[word for word in words if word != "..."], standalone_mode=False)


@pytest.mark.parametrize("command", INLINE)
def test_inline_command_and_its_options_exist(command: str) -> None:
    """The group, the command and each option exist; arguments may be left out in prose."""
    words = shlex.split(command)[1:]
    found: Any = typer.main.get_command(app)
    while (commands := getattr(found, "commands", None)) and words and not words[0].startswith("-"):
        found = commands.get(words.pop(0))
        assert found is not None, f"{INLINE[command]}: there is no such command"
    known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
    named = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert named - known - {"--help"} == set(), INLINE[command]


@pytest.mark.parametrize("command", COMPOSE)
def test_inline_compose_command_names_file_and_profiles(command: str) -> None:
    words = shlex.split(command)
    options = list(pairwise(words))
    services: Any = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]
    profiles = {profile for service in services.values() for profile in service.get("profiles", ())}
    assert {name for option, name in options if option == "-f"} <= {"docker/compose.yaml"}, COMPOSE[command]
    assert {name for option, name in options if option == "--profile"} <= profiles, COMPOSE[command]


def test_inline_commands_are_found() -> None:
    assert len(INLINE) > 40
    assert len(COMPOSE) > 1
