"""Tests of the shell commands in the documentation: their syntax, and the table of the tests that run them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from infaas.cli.main import app
from tests.doc_commands import BLOCKS, ROOT, Block

_COMMANDS: Final = "tests/system/infaas/test_doc_commands.py"
_SIMULATION: Final = "tests/integration/infaas/test_simulation_page.py"
_NETWORK: Final = "installs packages; a test must not download"
_LONG: Final = "a verb of the Makefile, of which the suite itself is one; `tests/unit/tools` checks that each exists"

RUN: Final[Mapping[str, str]] = {
    "README.md#2": "tests/system/infaas/test_readme.py",
    "README.md#3": "tests/system/infaas/test_readme.py",
    "README.md#4": "tests/system/infaas/test_readme.py",
    "docs/jobs.md#0": _COMMANDS,
    "docs/rollout.md#0": _COMMANDS,
    "docs/rollout.md#1": _COMMANDS,
    "docs/security.md#1": _COMMANDS,
    "docs/security.md#4": _COMMANDS,
    "docs/security.md#6": "tests/system/infaas/test_secured.py",
    **{f"docs/simulation.md#{number}": _SIMULATION for number in range(8)},
}
"""Test that runs a block of commands."""

NOT_RUN: Final[Mapping[str, str]] = {
    "CONTRIBUTING.md#0": _LONG,
    "README.md#0": _LONG,
    "README.md#1": _LONG,
    "docker/README.md#0": "needs a container engine; `make images` starts what the images hold",
    "docker/README.md#1": "needs a cluster; `tests/unit/infaas/test_k8s.py` checks the manifests",
    "docker/README.md#2": "needs Ray and several machines; `bench/scale/ray_cluster.py` starts four nodes",
    "docs/admin.md#0": "names a remote host; `tests/system/infaas/test_remote_client.py` has one",
    "docs/batch.md#0": "needs a task of the reader's; `tests/system/infaas/test_batch.py` runs such jobs",
    "docs/calibration.md#0": "takes 20 minutes; `tests/system/infaas/test_calibrate.py` runs a shorter one",
    "docs/clients.md#0": _NETWORK,
    "docs/clients.md#1": "needs topics of the reader's; `tests/system/infaas/test_batch_topics.py` has such",
    "docs/generation.md#0": "needs a model of the zoo's extra; `tests/system/infaas/test_generation.py` has another",
    "docs/generation.md#1": "needs models of the reader's; `tests/system/infaas/test_generation.py` has others",
    "docs/generation.md#2": "as the first block",
    "docs/jobs.md#1": "settings of a gateway; `tests/integration/gateway/jobs` starts it with them",
    "docs/mcp.md#0": f"{_NETWORK}; `tests/system/infaas/test_mcp.py` runs the commands",
    "docs/models.md#0": "names a remote host; `tests/system/infaas/test_remote_client.py` has one",
    "docs/models.md#1": _NETWORK,
    "docs/models.md#2": "needs the models of sentiment; `tests/system/infaas/test_cascade.py` has others",
    "docs/models.md#3": "needs models of the reader's; `tests/integration/registry` registers such",
    "docs/models.md#4": "as the block before",
    "docs/openai.md#0": _NETWORK,
    "docs/operation.md#0": "needs a GPU; `tests/system/infaas/test_scaling.py` starts, scales and pins",
    "docs/security.md#0": "names a remote host; `tests/integration/gateway/test_tls.py` has such certificates",
    "docs/security.md#2": "needs a client certificate; `tests/integration/gateway/test_certificates.py` has one",
    "docs/security.md#3": "needs an issuer; `tests/integration/gateway/test_issuer.py` has one",
    "docs/security.md#5": "names a database; `tests/unit/store` checks such addresses",
    "docs/security.md#7": "needs a broker with users; `tests/system/infaas/test_secured.py` has one",
    "docs/security.md#8": "needs signed queries; `tests/integration/admin/test_tenants.py` makes such keys",
    "docs/traces.md#0": "records for hours; `tests/integration/infaas/test_record.py` records for seconds",
    "docs/tracing.md#0": f"{_NETWORK}; `tests/system/infaas/test_tracing.py` starts a system with a receiver",
    "docs/tracing.md#1": "needs traced queries; `tests/system/infaas/test_tracing.py` reads the exemplars",
}
"""Reason why no test runs a block as it is written."""


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
