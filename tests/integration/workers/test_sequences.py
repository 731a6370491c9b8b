"""Tests of models of sequences: outputs along the tokens, scalar inputs, a batch elsewhere, and no batch."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from broker.kafka.topics import TopicSpec, ensure_system_topics, ensure_topics
from broker.producing.producer import Producer
from registry.artifacts import ArtifactStore
from registry.importers.imported import completed
from registry.register import register
from registry.registering import imported
from registry.request import Registration
from schemas import headers as h
from schemas.oip import decode_response
from schemas.rows.catalog import Processing, Tokenise, Variant
from store.registry import get_task
from tests.integration.workers.conftest import PARTITIONS, Site, results_of
from tests.model_files import Quiet
from tests.processing_files import WORDS, token_model, token_vectors, write_tokenizer

TEXTS = [
    " ".join(WORDS[2 + (first + place) % 5] for place in range(length)) for first in range(4) for length in range(1, 9)
]


async def registered(site: Site, model: Path, samples: Path, **options: Any) -> Variant:
    """Register a model, a file or a folder, as the site's only variant, compared with itself."""
    request = Registration(
        architecture=site.variant.split(".")[0],
        task=site.task,
        file=model,
        calibration=samples,
        measure="agreement",
        max_batch=8,
        partitions=PARTITIONS,
        variants=("onnx-fp32",),
        **options,
    )
    await ensure_system_topics(site.kafka)
    await ensure_topics(site.kafka, [TopicSpec(site.replies)])
    artifacts = ArtifactStore(site.home / "artifacts")
    async with imported(model) as found:
        request = request if found is None else completed(request, found)
        (variant,) = await register(request, site.pool, site.kafka, artifacts, Quiet())
    return variant


def asked(inputs: dict[str, NDArray[Any]], **more: object) -> bytes:
    types = {"f": "FP32", "i": "INT64", "O": "BYTES"}
    tensors = [
        {"name": name, "shape": array.shape, "datatype": types[array.dtype.kind], "data": array.ravel().tolist()}
        for name, array in inputs.items()
    ]
    return msgspec.json.encode({"inputs": tensors} | more)


async def answers(site: Site, producer: Producer, queries: list[tuple[int, bytes]]) -> list[dict[str, NDArray[Any]]]:
    """Send queries at once, each with its number of inputs; return the outputs of each."""
    async with results_of(site) as results, site.worker("cpu-0"):
        await site.place("cpu-0", [0])
        for number, (inputs, value) in enumerate(queries):
            await site.ask_soon(producer, f"q{number}", value, [(h.BATCH, str(inputs).encode())])
        found = await results.until(len(queries))
    for number in range(len(queries)):
        assert found[f"q{number}"].status == "ok", found[f"q{number}"].error()
    return [decode_response(found[f"q{number}"].value).outputs for number in range(len(queries))]


async def test_texts_of_different_lengths_are_answered_together(site: Site, producer: Producer, tmp_path: Path) -> None:
    np.savez(tmp_path / "texts.npz", text=np.array(TEXTS))
    step = Tokenise(tokenizer=str(write_tokenizer(tmp_path / "tokenizer.json")), max_tokens=64)
    model = token_model(tmp_path / "model.onnx")
    variant = await registered(site, model, tmp_path / "texts.npz", processing=Processing(before=step))
    assert variant.mixes_lengths
    task = await get_task(site.pool, site.task)
    assert task is not None
    assert [spec.name for spec in task.outputs] == ["last_hidden_state", "pooler_output", "lengths"]
    asked_texts = [TEXTS[start : start + 1 + start % 11] for start in range(len(TEXTS))]
    queries = [(len(texts), asked({"text": np.array(texts, object)})) for texts in asked_texts]
    only = asked({"text": np.array(TEXTS[:8], object)}, outputs=[{"name": "pooler_output"}])
    *found, pooled = await answers(site, producer, [*queries, (8, only)])
    for texts, outputs in zip(asked_texts, found, strict=True):
        lengths = [len(text.split()) for text in texts]
        assert outputs["lengths"].tolist() == lengths
        assert outputs["last_hidden_state"].shape == (len(texts), max(lengths), 3), (
            "as long as the longest of the query"
        )
        for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
            np.testing.assert_allclose(outputs["last_hidden_state"][row, :length], token_vectors(text), rtol=1e-4)
            assert not outputs["last_hidden_state"][row, length:].any()
    assert set(pooled) == {"pooler_output"}


async def test_tensors_of_different_lengths_are_answered_in_their_own(
    site: Site, producer: Producer, tmp_path: Path
) -> None:
    ids = np.random.default_rng(0).integers(2, len(WORDS), (40, 6))
    np.savez(tmp_path / "rows.npz", input_ids=ids, attention_mask=np.ones_like(ids))
    variant = await registered(site, token_model(tmp_path / "model.onnx"), tmp_path / "rows.npz")
    assert variant.mixes_lengths
    rows = [np.resize(ids[number], (1 + number % 2, 1 + number % 9)) for number in range(36)]
    queries = [(len(row), asked({"input_ids": row, "attention_mask": np.ones_like(row)})) for row in rows]
    for row, outputs in zip(rows, await answers(site, producer, queries), strict=True):
        assert set(outputs) == {"last_hidden_state", "pooler_output"}
        wanted = np.array([token_vectors(" ".join(WORDS[number] for number in one)) for one in row])
        np.testing.assert_allclose(outputs["last_hidden_state"], wanted, rtol=1e-4)


def write_model(path: Path, nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> Path:
    given, returned = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in specs.items()]
        for specs in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "g", given, returned, [numpy_helper.from_array(np.array([0]), "layers")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


async def test_scalars_are_parameters_and_state_is_batched(site: Site, producer: Producer, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "rate"], ["fast"]),
        helper.make_node("ReduceSum", ["state", "layers"], ["sum"], keepdims=0),
        helper.make_node("Add", ["fast", "sum"], ["z"]),
        helper.make_node("Add", ["state", "fast"], ["next"]),
    ]
    model = write_model(
        tmp_path / "state.onnx", nodes, {"x": ["", 4], "state": [2, "", 4], "rate": []},
        {"z": ["", 4], "next": ["", "", 4]},
    )  # fmt: skip
    random = np.random.default_rng(1)
    x, state = random.normal(size=(40, 4)).astype(np.float32), random.normal(size=(40, 2, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x, state=state, rate=np.float32(2))
    await registered(site, model, tmp_path / "rows.npz", output="z")
    rates = [2.0, 3.0, 4.5]
    queries = [
        (
            2,
            asked(
                {"x": x[start : start + 2], "state": state[start : start + 2]},
                parameters={} if rate == 2 else {"rate": rate},
            ),
        )
        for start in range(10)
        for rate in rates
    ]
    scalar = asked({"rate": np.array(7, np.float32), "x": x[:3], "state": state[:3]})
    *found, last = await answers(site, producer, [*queries, (3, scalar)])
    for number, outputs in enumerate(found):
        start, rate = number // 3, rates[number % 3]
        rows = slice(start, start + 2)
        np.testing.assert_allclose(outputs["z"], x[rows] * rate + state[rows].sum(axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(outputs["next"], state[rows] + x[rows, None] * rate, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last["z"], x[:3] * 7 + state[:3].sum(axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("declared", [True, False])
async def test_model_without_batch_computes_inputs_one_by_one(
    site: Site, producer: Producer, tmp_path: Path, declared: bool
) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0), helper.make_node("Sub", ["x", "mean"], ["z"])]
    size = "" if declared else "samples"
    model = write_model(
        tmp_path / "one.onnx", nodes, {"x": [size]}, {"z": [size], "mean": []} if not declared else {"z": [size]}
    )
    x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=x)
    variant = await registered(site, model, tmp_path / "rows.npz", output="z", batch_axes=("none",) if declared else ())
    assert variant.max_batch == 1
    queries = [(3, asked({"x": x[start : start + 3, : 2 + start % 4]})) for start in range(12)]
    for start, outputs in enumerate(await answers(site, producer, queries)):
        rows = x[start : start + 3, : 2 + start % 4]
        np.testing.assert_allclose(outputs["z"], rows - rows.mean(axis=1, keepdims=True), atol=1e-5)
