"""Tests of models as other tools export them: registered, and loaded as a worker loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from registry.artifacts import ArtifactStore
from registry.importers.importing import ImportModel
from schemas.rows.catalog import VariantState
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import get_profile
from tests.model_files import WEIGHTS, openvino_files
from workers.serving.model import find_model, load_session

Register = Callable[..., Any]
MakeModel = Callable[..., Path]
FP32 = ("onnx-fp32",)


async def test_model_of_batch_one_is_served_one_by_one(
    run: Register, make_model: MakeModel, store_pool: Pool, artifacts: ArtifactStore, progress: Any
) -> None:
    """The model averages over the batch, so its output is right only for a batch of one."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("MatMul", ["m", "w"], ["scores"]),
    ]
    model = make_model("one.onnx", nodes=nodes, x=[1, 4], scores=[1, 3])
    (variant,) = await run(file=model, max_batch=8, variants=FP32)
    assert await run(file=model, max_batch=8, variants=FP32) == [variant]
    assert (variant.state, variant.max_batch) == (VariantState.READY, 1)
    assert any("computed one by one" in note for note in progress.notes)
    loaded = load_session(find_model(await load_catalog(store_pool), variant.name, 8), artifacts, threads=1)
    x = loaded.probe["x"]
    assert np.allclose(loaded.session.infer({"x": x})["scores"], x @ WEIGHTS, rtol=1e-4)


async def test_external_weights_become_part_of_artifact(
    run: Register, make_model: MakeModel, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    """The artifact contains the external data, so it loads after that file is gone."""
    file = tmp_path / "apart" / "linear.onnx"
    file.parent.mkdir()
    onnx.save(onnx.load(make_model()), file, save_as_external_data=True, location="weights", size_threshold=0)
    (variant,) = await run(file=file, variants=FP32)
    (file.parent / "weights").unlink()
    whole = onnx.load(artifacts.path(variant.artifact))
    assert np.allclose(numpy_helper.to_array(whole.graph.initializer[0]), WEIGHTS)


async def test_openvino_model_becomes_variant(
    run: Register, make_model: MakeModel, store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    graph = openvino_files(make_model(), tmp_path / "ours.xml")
    model = ImportModel(graph, tmp_path / "imported").run().file
    made = {variant.name: variant for variant in await run(file=model, variants=())}
    variant = made["linear.openvino-fp32.cpu"]
    assert (variant.state, variant.runtime) == (VariantState.READY, "openvino")
    profile = await get_profile(store_pool, variant.name)
    assert profile is not None
    assert profile.accuracy == 1.0
    loaded = load_session(find_model(await load_catalog(store_pool), variant.name, 4), artifacts, threads=1)
    x = loaded.probe["x"]
    assert np.allclose(loaded.session.infer({"x": x})["scores"], x @ WEIGHTS, rtol=1e-4, atol=1e-5)
