"""Tests of the README's queries, run as written except for ports, latency and the name of a task."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.installed import Environment, build_client
from tests.system.infaas.conftest import Cli
from zoo.samples import DATA

pytestmark = pytest.mark.needs_minutes

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
LATENCY_MS = 30_000
"""Long enough for a busy machine; the README has a latency for a quiet one."""


async def test_readme_first_queries_work(shared: Cli, tmp_path: Path) -> None:
    client = Environment(tmp_path, build_client(tmp_path / "dist"))
    (client.cwd / "schemas.py").write_text("raise ImportError('of the user')")
    state = await shared.state()
    # One small model of each task suffices and is registered within seconds.
    text = await shared.register_texts("sentiment-text")
    image = await shared.register("mnist_cnn_s.onnx", "--name=cnn", "--image=28x28:grey", "--top=1", task="mnist-image")
    assert [variant["state"] for variant in text + image] == ["ready", "ready"]
    # A query without a latency waits until a model is loaded, however long that takes.
    asked = await shared.json("query", "sentiment-text", "a wonderful film")
    assert asked["outputs"]["label"] == [["positive"]]
    shown = await shared.json("query", "mnist-image", str(DATA / "seven.png"), "--via=kafka")
    assert shown["outputs"]["class"] == [[7]]
    for name, program in (
        ("curl", "bash"),
        ("image", "bash"),
        ("python", sys.executable),
        ("kafka", sys.executable),
    ):
        snippet = _snippet(name)
        assert "127.0.0.1:8080" in snippet or "127.0.0.1:9092" in snippet
        assert "2000" in snippet
        snippet = snippet.replace("2000", str(LATENCY_MS))
        snippet = snippet.replace("127.0.0.1:9092", state["kafka"])
        snippet = snippet.replace("http://127.0.0.1:8080", state["gateway"])
        output = await _run(program, "-c", snippet)
        if name == "python":  # the client library alone, over Kafka and over HTTP
            over_http = snippet.replace(f'kafka="{state["kafka"]}"', f'gateway="{state["gateway"]}"')
            assert over_http != snippet
            for asked in (snippet, over_http):
                code, alone, err = await client.output("python", "-c", asked)
                assert (code, err) == (0, ""), err
                assert "b'positive'" in alone
        assert ("cnn" if name == "image" else "textcnn") in output, name
        if program == "bash":
            _check(json.loads(output), name)


async def test_readme_registration_works(shared: Cli, tmp_path: Path) -> None:
    snippet = _snippet("register").replace("--task digits", "--task mine")
    snippet = snippet.replace("digits.npz", str(tmp_path / "digits.npz"))
    commands = f'python() {{ "{sys.executable}" "$@"; }}; infaas() {{ python -m infaas.cli.main "$@"; }}; set -e'
    await shared.state()
    output = await _run("bash", "-c", f"cd {ROOT}\nexport INFAAS_HOME={shared.home}\n{commands}\n{snippet}")
    assert "my-mlp.onnx-int8dyn.cpu" in output
    assert "logits" in output


def _check(answer: Any, name: str) -> None:
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    if name == "image":
        assert outputs["class"] == [7]
    else:
        assert outputs["label"] == ["positive"]
        assert answer["parameters"]["accuracy"] >= 0.8


def _snippet(name: str) -> str:
    found = re.search(rf"<!-- test: {name} -->\n```\w+\n(.*?)```", README, re.DOTALL)
    assert found is not None, name
    return found.group(1)


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ), cwd=ROOT
    )
    async with asyncio.timeout(180):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
