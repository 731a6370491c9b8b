"""Tests of quality measures of tasks: declared or inferred, kept, and equal for all variants and models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import AccuracySource, VariantState
from store.pool import Pool
from store.registry import get_task, list_profiles
from store.rollouts import list_versions
from tests.model_files import WEIGHTS

Register = Callable[..., Any]
MakeModel = Callable[..., Path]
MakeSamples = Callable[..., Path]
FP32 = ("onnx-fp32",)


@pytest.fixture
def sigmoid(make_model: MakeModel) -> Path:
    """Create a model with one output column between 0 and 1."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Sigmoid", ["y"], ["scores"])]
    return make_model("sigmoid.onnx", nodes=nodes, weights=WEIGHTS[:, :1], scores=["batch", 1])


async def _qualities(pool: Pool) -> dict[str, float]:
    return {profile.variant.split(".")[0]: profile.accuracy for profile in await list_profiles(pool)}


async def test_sigmoid_column_is_measured_by_accuracy(
    run: Register, sigmoid: Path, make_samples: MakeSamples, store_pool: Pool, progress: Any
) -> None:
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    labels = (x @ WEIGHTS[:, 0] > 0).astype(np.int64)
    await run(file=sigmoid, validation=make_samples(x=x, label=labels), variants=("onnx-int8dyn",))
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert (task.measure, task.measured_output) == ("accuracy", "scores")
    assert all(profile.accuracy > 0.9 for profile in await list_profiles(store_pool))
    assert any("kind is measured by accuracy: 'scores' is one column" in note for note in progress.notes)


@pytest.mark.needs_minutes
async def test_regression_is_measured_by_nrmse(
    run: Register, make_model: MakeModel, make_samples: MakeSamples, store_pool: Pool
) -> None:
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    model = make_model("regression.onnx", weights=WEIGHTS[:, :1], scores=["batch", 1])
    values = x @ WEIGHTS[:, 0] + np.random.default_rng(4).normal(size=200) * 0.1
    made = await run(file=model, validation=make_samples(x=x, label=values))
    assert {variant.state for variant in made} == {VariantState.READY}
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert task.measure == "1-nrmse"
    profiles = await list_profiles(store_pool)
    assert len(profiles) == 3
    assert all(0.95 < profile.accuracy < 1 for profile in profiles)
    assert {profile.accuracy_source for profile in profiles} == {AccuracySource.MEASURED}


@pytest.mark.needs_minutes
async def test_embedding_needs_declared_measure(
    run: Register, make_model: MakeModel, make_samples: MakeSamples, store_pool: Pool
) -> None:
    """An output of 64 columns with 20 labels looks like a classifier, with an accuracy of 5 %."""
    weights = np.random.default_rng(1).normal(size=(4, 64)).astype(np.float32)
    model = make_model("embedding.onnx", weights=weights, scores=["batch", 64])
    labels = np.arange(200) % 20
    with pytest.raises(InvalidRequest, match=r"For an embedding .*--measure cosine"):
        await run(file=model, validation=make_samples(label=labels), variants=FP32)
    assert await get_task(store_pool, "kind") is None
    x = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    vectors = make_samples("vectors.npz", x=x, label=x @ weights * 3)
    await run(file=model, validation=vectors, measure="cosine", variants=("onnx-int8dyn",))
    assert all(0.99 < profile.accuracy <= 1 for profile in await list_profiles(store_pool))


@pytest.mark.needs_minutes
async def test_agreement_measures_models_without_labels(
    run: Register, make_model: MakeModel, make_samples: MakeSamples, store_pool: Pool
) -> None:
    rows = make_samples("rows.npz", label=None)
    given: dict[str, Any] = {"validation": None, "calibration": rows, "measure": "agreement"}
    await run(**given, variants=("onnx-int8dyn",))
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert task.reference == "linear.onnx-fp32.cpu"
    other = make_model("other.onnx", weights=WEIGHTS * np.array([1, 1, -1], np.float32))
    await run(**given, architecture="other", file=other, variants=FP32)
    qualities = {profile.variant: profile.accuracy for profile in await list_profiles(store_pool)}
    assert qualities["linear.onnx-fp32.cpu"] == 1.0
    assert 0.9 < qualities["linear.onnx-int8dyn.cpu"] <= 1.0
    assert 0.2 < qualities["other.onnx-fp32.cpu"] < 0.8


async def test_class_names_are_kept_with_task(
    run: Register, make_samples: MakeSamples, store_pool: Pool, tmp_path: Path
) -> None:
    with np.load(make_samples()) as data:
        named = np.array(["owl", "cat", "dog"])[data["label"]]
    rows = make_samples("named.npz", label=named)
    await run(validation=rows, classes=("owl", "cat", "dog"), variants=FP32)
    task = await get_task(store_pool, "kind")
    assert task is not None
    assert task.classes == ("owl", "cat", "dog")
    assert await _qualities(store_pool) == {"linear": 1.0}
    # The next model of the task takes the class names from the task.
    await run(architecture="second", validation=rows, variants=FP32)
    assert await _qualities(store_pool) == {"linear": 1.0, "second": 1.0}


async def test_custom_measure_must_be_named_each_time(
    run: Register, store_pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_measures.py").write_text("def half(outputs, labels):\n    return len(outputs) / len(labels) / 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    await run(measure="own_measures:half", variants=FP32)
    assert await _qualities(store_pool) == {"linear": 0.5}
    with pytest.raises(OperatorError, match=r"Python code: give --measure own_measures:half"):
        await run(architecture="second", variants=FP32)
    with pytest.raises(OperatorError, match=r"are measured by own_measures:half: leave out --measure"):
        await run(architecture="second", measure="accuracy", variants=FP32)
    await run(architecture="second", measure="own_measures:half", variants=FP32)
    assert await _qualities(store_pool) == {"linear": 0.5, "second": 0.5}


@pytest.mark.needs_minutes
async def test_changed_setting_is_next_version(run: Register, store_pool: Pool, make_samples: MakeSamples) -> None:
    given: dict[str, Any] = {"variants": FP32, "validation": make_samples()}
    await run(**given)
    await run(**given)
    for changes in ({"validation": make_samples("other.npz", 150)}, {"accuracy_samples": 50}, {"measure": "accuracy"}):
        await run(**{**given, **changes})
        await run(**{**given, **changes})
    versions = await list_versions(store_pool, "linear")
    assert [version.name for version in versions] == ["linear", "linear-v2", "linear-v3", "linear-v4"]
