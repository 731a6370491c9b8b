"""Test of cascades and chains with artifacts in a bucket, on machines that cache one file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from onnx import helper

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.cascades import register_cascade
from registry.composites.chains import register_chain
from registry.request import CascadeRequest, ChainRequest
from registry.s3 import S3Bucket
from registry.samples import save_arrays
from schemas.rows.catalog import Processing, Task, TensorSpec, Tokenise
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import put_architecture, put_task, put_variant
from tests.example_rows import a_profile, a_variant, an_architecture
from tests.model_files import Quiet
from tests.processing_files import text_model, write_tokenizer
from tests.s3.server import BUCKET
from workers.serving.model import find_model, load_session

pytestmark = pytest.mark.needs_jdk

COUNTED, MASKED, SWAPPED = "counted.onnx-fp32.cpu", "masked.onnx-fp32.cpu", "swapped.onnx-fp32.cpu"
GOOD, BAD = b"a very good film", b"bad"
TOKENS = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, -1)) for name in ("input_ids", "attention_mask"))
TEXT = (TensorSpec(name="text", datatype="BYTES", shape=(-1,)),)
SCORES = (TensorSpec(name="scores", datatype="FP32", shape=(-1, 2)),)


def _machine(folder: Path) -> ArtifactStore:
    """Return the artifact store of a machine whose cache keeps one file besides the files in use."""
    bucket = S3Bucket(f"s3://{BUCKET}/composites", os.environ["INFAAS_ARTIFACTS_ENDPOINT"])
    return ArtifactStore(folder, bucket, cache_bytes=1)


@pytest.fixture
async def stages(s3_environment: None, make_model: Callable[..., Path], store_pool: Pool, tmp_path: Path) -> None:
    """Register, from a machine that is gone, two variants that classify texts, and one that swaps their scores."""
    artifacts, files = _machine(tmp_path / "gone"), tmp_path / "files"
    files.mkdir()
    tokenizer = artifacts.put(write_tokenizer(files / "tokenizer.json"))
    save_arrays(files / "texts", {"text": np.array([GOOD, BAD] * 4, object)})
    processing = Processing(before=Tokenise(tokenizer=tokenizer), tensors=TOKENS, scores="scores")
    await put_task(store_pool, Task(name="reviews", inputs=TEXT, outputs=SCORES))
    await put_task(store_pool, Task(name="swap", inputs=(replace(SCORES[0], name="x"),), outputs=SCORES))
    swap = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    weights = np.array([[0, 1], [1, 0]], np.float32)
    for name, task, file, accuracy in (
        (COUNTED, "reviews", text_model(files / "counted.onnx", masked=False), 0.5),
        (MASKED, "reviews", text_model(files / "masked.onnx"), 1.0),
        (SWAPPED, "swap", make_model(nodes=swap, weights=weights, x=["batch", 2], scores=["batch", 2]), 1.0),
    ):
        variant = replace(a_variant(name, task), artifact=artifacts.put(file), max_batch=4)
        of_texts = {"sample_rows": artifacts.put(files / "texts"), "processing": processing} if task != "swap" else {}
        architecture = replace(an_architecture(variant.architecture, task), source=variant.artifact, **of_texts)
        await put_architecture(store_pool, architecture)
        await put_variant(store_pool, variant, a_profile(name, accuracy=accuracy))


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    texts = np.array([GOOD.decode(), BAD.decode()] * 150)
    np.savez(tmp_path / "reviews.npz", text=texts, label=1 - np.arange(300) % 2)
    return tmp_path / "reviews.npz"


@pytest.mark.usefixtures("stages")
async def test_text_composites_are_served_from_bucket(
    store_pool: Pool, kafka: KafkaSettings, validation: Path, progress: Quiet, tmp_path: Path
) -> None:
    here, request = (
        _machine(tmp_path / "here"),
        CascadeRequest(task="reviews", first=COUNTED, then=MASKED, validation=validation, thresholds=(0.9,)),
    )
    (cascade,) = await register_cascade(request, store_pool, kafka, here, progress)
    asked = ChainRequest(name="opposite", tasks=("reviews", "swap"), through=((MASKED, SWAPPED),))
    (chain,) = await register_chain(asked, store_pool, kafka, here, progress)
    catalog, there = await load_catalog(store_pool), _machine(tmp_path / "there")
    texts: dict[str, Any] = {"text": np.array([GOOD, BAD], object)}
    answers: list[list[int]] = []
    for variant in (cascade.variant, chain):
        loaded = load_session(find_model(catalog, variant.name, 4), there, 1)
        answers.append(loaded.session.infer(texts)["scores"].argmax(axis=1).tolist())
        loaded.resources.close()
    assert answers == [[1, 0], [0, 1]]
