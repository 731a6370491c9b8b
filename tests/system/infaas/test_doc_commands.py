"""Tests of the commands in the manual: jobs.md, rollout.md and security.md.

A block runs as it is written, but for the names of tasks, files and hosts. Each line must succeed.
"""

import asyncio
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from tests.doc_commands import block
from tests.system.infaas.conftest import UP_S, Cli
from zoo.samples import DATA, labelled

INFAAS = f'set -e; infaas() {{ "{sys.executable}" -m infaas.cli.main "$@"; }}\n'


@pytest.fixture
async def folder(shared: Cli, tmp_path: Path) -> Path:
    """Folder with the files of a user of the system: models and labelled data."""
    await shared.state()
    inputs, labels = labelled("digits")
    np.savez(tmp_path / "digits.npz", allow_pickle=False, label=labels[:300], **{k: v[:300] for k, v in inputs.items()})
    shutil.copy(DATA / "digits_linear.onnx", tmp_path / "my.onnx")
    shutil.copy(DATA / "digits_mlp.onnx", tmp_path / "better.onnx")
    return tmp_path


async def run(cli: Cli, folder: Path, text: str, changes: dict[str, str]) -> str:
    """Run a text of commands after some changes, each of which must apply; returns the output."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", INFAAS + text, cwd=folder, env=cli.environment(),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(UP_S):
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, (out.decode(), err.decode())
    return out.decode()


async def test_commands_of_rollouts_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    own = {"--task digits": f"--task d-{word} --variant onnx-fp32", "my-mlp": f"mlp-{word}"}
    await run(shared, folder, block("docs/rollout.md#0"), own | {"better.onnx": "my.onnx"})
    *_, rolled_back = (await run(shared, folder, block("docs/rollout.md#1"), own)).splitlines()
    assert "retired" in rolled_back


async def test_commands_of_access_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    own = {"my.onnx": f"my.onnx --name my-{word}", "--task digits": f"--task a-{word} --variant onnx-fp32",
           "show my": f"show my-{word}", "set my": f"set my-{word}"}  # fmt: skip
    assert "globex" in await run(shared, folder, block("docs/security.md#4"), own)


async def test_commands_of_keys_run(shared: Cli, folder: Path) -> None:
    word = uuid4().hex[:6]
    made: Any = await shared.json("keys", "create", f"--tenant=t-{word}")
    keys = {"3f9c0a1be204": made["id"], "acme": f"t-{word}"}
    assert made["id"] in await run(shared, folder, block("docs/security.md#1"), keys)


async def test_commands_of_jobs_run(shared: Cli, folder: Path) -> None:
    word, state = uuid4().hex[:6], await shared.state()
    await shared.register_texts(f"text-{word}", name=f"textcnn-{word}")
    own = {"http://127.0.0.1:8080": state["gateway"], "sentiment-text": f"text-{word}"}
    place, begin, *others = block("docs/jobs.md#0").splitlines()
    shown = await run(shared, folder, f"{place}\n{begin}", own)
    assert " 202 " in shown
    (job,) = re.findall(r"^location: .*/(\S+)", shown, re.IGNORECASE | re.MULTILINE)
    rest = "\n".join([place, "set +e", *others, "true"])  # the block cancels the job, so it has no result
    shown = await run(shared, folder, rest, own | {"ID": job})
    assert shown.count(job) > 2
