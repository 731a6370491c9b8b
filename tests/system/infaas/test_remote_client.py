"""Tests of a machine that has only a URL and a key: a registration, a query, and the commands of the manual."""

import json
import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import numpy as np
import pytest

from tests.doc_commands import block, run_commands, without_start
from tests.processes import suspended
from tests.system.infaas.conftest import Cli
from tests.system.infaas.idleness import until_idle
from tests.system.infaas.plain_client import query
from tests.waiting import read_until
from zoo.samples import DATA, labelled

pytestmark = pytest.mark.needs_minutes


async def test_remote_registration_survives_killed_registrar(guarded: Cli, tmp_path: Path) -> None:
    """The registrar is killed halfway; the client sees the registration continue and gets its result.

    Afterwards the system, with one of every service and a model that serves, must be idle.
    """
    inputs, labels = labelled("digits")
    validation = tmp_path / "digits.npz"
    np.savez(validation, allow_pickle=False, label=labels[:200], **{name: rows[:200] for name, rows in inputs.items()})
    remote, word = Cli(tmp_path / "elsewhere"), uuid4().hex[:8]
    tenant, model = f"acme-{word}", f"mlp-{word}"
    state = await guarded.state_when(lambda one: one["ready"])
    made = await guarded.json("keys", "create", f"--tenant={tenant}", "--role=publish")
    env = {"INFAAS_URL": state["gateway"], "INFAAS_KEY": made["key"]}
    words = (f"--task=mine-{word}", f"--validation={validation}", "--variant=onnx-fp32", "--max-batch=4", "--json")
    words += ("--if-no-worker=wait",)

    async def listed() -> Any:
        return await remote.json("registrations", "list", **env)

    # the worker that builds and measures the variant
    async with suspended(state["services"]["worker-cpu-0"]["pid"]):
        registering = await remote.start("register", str(DATA / "digits_mlp.onnx"), f"--name={model}", *words, **env)
        await read_until(listed, lambda rows: rows and rows[0]["state"] == "running", 180)
        os.kill(state["services"]["registrar"]["pid"], signal.SIGKILL)
    out, err = await registering.communicate()
    assert registering.returncode == 0, err.decode()
    assert [one["name"] for one in json.loads(out)] == [f"{model}.onnx-fp32.cpu"]
    [row] = await listed()
    assert (row["state"], row["tenant"], row["asked_by"][:4]) == ("done", tenant, "key:")
    assert row["attempts"] > 1, "it was done before anything was killed"
    headers = {"Authorization": f"Bearer {made['key']}"}
    url = f"{state['gateway']}/v2/models/{model}/infer"
    async with aiohttp.ClientSession(headers=headers) as http, http.post(url, data=query()) as answer:
        assert (answer.status, (await answer.json())["model_name"]) == (200, model)
    assert await guarded.json("access", "show", model) == {
        "name": model, "access": {"owner": tenant, "visibility": "private", "shared_with": []}
    }  # fmt: skip
    await until_idle(guarded)


async def test_commands_of_admin_page_run(guarded: Cli, tmp_path: Path) -> None:
    word, state = uuid4().hex[:6], await guarded.state_when(lambda one: one["ready"])
    await guarded.register_texts(f"text-{word}", name=f"textcnn-{word}")
    made = await run_commands(without_start(block("docs/admin.md#0")), tmp_path, guarded.environment())
    (key,) = re.findall(r"infaas_\S+", made)
    remote = Cli(tmp_path / "elsewhere").environment()
    own = {"https://models.example:8080": state["gateway"], "infaas_...": key, "sentiment-text": f"text-{word}"}
    shown = await run_commands(block("docs/admin.md#1"), tmp_path, remote, own)
    assert "positive" in shown
    pins = (await guarded.json("scale", "status"))["pins"]
    assert [pin["minimum"] for pin in pins if pin["name"] == f"text-{word}"] == [2]
    await guarded.run("scale", "unpin", "task", f"text-{word}")


async def test_commands_of_remote_registration_run(guarded: Cli, tmp_path: Path) -> None:
    word, state = uuid4().hex[:6], await guarded.state_when(lambda one: one["ready"])
    inputs, labels = labelled("digits")
    np.savez(tmp_path / "reviews.npz", allow_pickle=False, label=labels[:100], input=inputs["input"][:100])
    shutil.copy(DATA / "digits_linear.onnx", tmp_path / "model.onnx")
    made = await guarded.json("keys", "create", f"--tenant=acme-{word}", "--role=publish")
    own = {
        "https://models.example:8080": state["gateway"],
        "INFAAS_KEY=...": f"INFAAS_KEY={made['key']}",
        "--task reviews": f"--name m-{word} --task r-{word} --variant onnx-fp32",
    }
    remote = Cli(tmp_path / "elsewhere").environment()
    shown = await run_commands(block("docs/models.md#0"), tmp_path, remote, own)
    assert "done" in shown
