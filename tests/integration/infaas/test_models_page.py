"""Tests of the registrations in `docs/models.md`: small models without a worker, so this machine makes the variants."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_system_topics
from store.pool import Pool
from store.registry import list_tasks
from tests.doc_commands import ROOT, block, run_commands
from tests.processes import environment, variables_of
from tests.processing_files import encoded_image, text_model, token_model, write_tokenizer

pytestmark = pytest.mark.needs_minutes

STEPS = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL | re.MULTILINE)
ONE_VARIANT = {"infaas register": "infaas register --variant onnx-fp32"}
TEXTS = np.array([b"good film", b"bad film", b"a very good film", b"bad"] * 8)


@pytest.fixture
async def env(kafka: KafkaSettings, database: str, tmp_path: Path) -> dict[str, str]:
    await ensure_system_topics(kafka)
    return environment(variables_of(kafka, database, tmp_path / "home"))


def image_model(path: Path, classes: int = 5) -> None:
    """Write a model of 224x224 colour images."""
    weights = np.random.default_rng(3).normal(size=(3, classes)).astype(np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["colours"]),
        helper.make_node("MatMul", ["colours", "w"], ["scores"]),
    ]
    write_model(path, nodes, ["batch", 3, 224, 224], "scores", ["batch", classes], weights)


def linear_model(path: Path, given: str, result: str) -> None:
    """Write a model of four numbers that makes four numbers."""
    nodes = [helper.make_node("MatMul", [given, "w"], [result])]
    write_model(path, nodes, ["batch", 4], result, ["batch", 4], np.eye(4, dtype=np.float32), given)


def write_model(
    path: Path, nodes: list[Any], shape: list[Any], result: str, made: list[Any], weights: Any, given: str = "x"
) -> None:
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, made)],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


async def test_registrations_of_texts_and_images_succeed(env: dict[str, str], store_pool: Pool, tmp_path: Path) -> None:
    text_model(tmp_path / "bert.onnx")
    write_tokenizer(tmp_path / "tokenizer.json")
    np.savez(tmp_path / "reviews.npz", text=TEXTS, label=np.array([1, 0] * 16))
    image_model(tmp_path / "resnet.onnx")
    pixels = np.random.default_rng(4).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    images = np.array([encoded_image(one) for one in pixels], dtype=object)
    np.savez(tmp_path / "animals.npz", image=images.astype("S"), label=np.arange(12) % 5)
    (tmp_path / "steps.toml").write_text(STEPS[0])
    (tmp_path / "classes.txt").write_text("owl\ncat\ndog\nfox\nhen\n")
    await run_commands(block("docs/models.md#5"), tmp_path, env, ONE_VARIANT)
    tasks = {task.name: {spec.name for spec in task.outputs} for task in await list_tasks(store_pool)}
    assert tasks == {"reviews": {"scores"}, "animals": {"scores", "class"}, "named-animals": {"scores", "label"}}


async def test_registrations_of_sentence_encoders_succeed(
    env: dict[str, str], store_pool: Pool, tmp_path: Path
) -> None:
    folder = tmp_path / "all-MiniLM-L6-v2"
    (folder / "pooling").mkdir(parents=True)
    token_model(folder / "model.onnx")
    token_model(tmp_path / "encoder.onnx")
    for one in (folder, tmp_path):
        write_tokenizer(one / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "max_position_embeddings": 64}))
    (folder / "pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    kinds = {"": "Transformer", "pooling": "Pooling", "norm": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    np.savez(tmp_path / "texts.npz", text=TEXTS)
    await run_commands(block("docs/models.md#6"), tmp_path, env, ONE_VARIANT)
    [task] = await list_tasks(store_pool)
    assert (task.name, task.measure) == ("embeddings", "cosine")
    assert "sentence_embedding" in {spec.name for spec in task.outputs}


async def test_registration_of_a_chain_succeeds(env: dict[str, str], store_pool: Pool, tmp_path: Path) -> None:
    rows = np.random.default_rng(2).normal(size=(32, 4)).astype(np.float32)
    for task, given, result in (("read", "page", "text"), ("judge", "text", "verdict")):
        linear_model(tmp_path / f"{task}.onnx", given, result)
        np.savez(tmp_path / f"{task}.npz", allow_pickle=False, label=rows.argmax(axis=1), **{given: rows})
        words = f"infaas register {task}.onnx --task {task} --validation {task}.npz --variant onnx-fp32\n"
        await run_commands(words, tmp_path, env)
    await run_commands(block("docs/models.md#4"), tmp_path, env)
    assert "read-and-judge" in {task.name for task in await list_tasks(store_pool)}
