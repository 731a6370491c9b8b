"""Tests of cascades of real models: registered end to end, and loaded as a worker loads them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from registry.composites.cascades import register_cascade
from registry.composites.proposals import find_cascades, requests_for
from registry.request import CascadeRequest
from runtimes.composite import read_document
from schemas.errors import InvalidRequest, OperatorError
from schemas.registrations import RegisteredVariant
from schemas.rows.catalog import AccuracySource, Task, TensorSpec, VariantState
from store.catalog import load_catalog
from store.pool import Pool
from store.registry import get_architecture, get_profile, list_variants, put_architecture, put_task, put_variant
from tests.example_rows import a_profile, a_variant, an_architecture
from tests.model_files import CLASSES, FEATURES, WEIGHTS, Quiet
from tests.store_queries import delete_architecture
from workers.serving.model import find_model, load_session

GUESS, SURE = "guess.onnx-fp32.cpu", "sure.onnx-fp32.cpu"
ROWS = 900


@pytest.fixture
def validation(make_samples: Callable[..., Path]) -> Path:
    return make_samples(count=ROWS)


@pytest.fixture
async def stages(make_model: Callable[..., Path], validation: Path, store_pool: Pool, artifacts: ArtifactStore) -> None:
    """Register two variants of the task `kind`: an inaccurate one with usable confidences, and an exact one."""
    noise = np.random.default_rng(1).normal(size=(FEATURES, CLASSES)).astype(np.float32)
    inputs, outputs = (
        (TensorSpec(name=name, datatype="FP32", shape=(-1, size)),) for name, size in (("x", 4), ("scores", 3))
    )
    await put_task(store_pool, Task(name="kind", inputs=inputs, outputs=outputs))
    with np.load(validation) as rows:
        x, labels = rows["x"], rows["label"]
    for name, weights in ((GUESS, WEIGHTS + 0.35 * noise), (SURE, WEIGHTS)):
        artifact = artifacts.put(make_model(f"{name}.onnx", weights=weights))
        variant = replace(a_variant(name, "kind"), artifact=artifact, max_batch=4)
        await put_architecture(store_pool, replace(an_architecture(variant.architecture, "kind"), source=artifact))
        profile = a_profile(name, accuracy=float(np.mean((x @ weights).argmax(axis=1) == labels)))
        await put_variant(store_pool, variant, profile)


@pytest.fixture
def cascade(
    stages: None, validation: Path, store_pool: Pool, kafka: KafkaSettings, artifacts: ArtifactStore, progress: Quiet
) -> Callable[..., Any]:
    async def cascade(**changes: Any) -> list[RegisteredVariant]:
        fields: dict[str, Any] = {"task": "kind", "first": GUESS, "then": SURE, "validation": validation}
        return await register_cascade(CascadeRequest(**{**fields, **changes}), store_pool, kafka, artifacts, progress)

    return cascade


async def test_cascade_has_variant_per_threshold(
    cascade: Callable[..., Any], store_pool: Pool, artifacts: ArtifactStore, progress: Quiet
) -> None:
    made = await cascade(thresholds=(0.9, 0.6))
    assert [one.variant.name for one in made] == [
        f"guess-or-sure.onnx-fp32-onnx-fp32-{threshold}.cpu" for threshold in ("t600", "t900")
    ]
    assert {(one.variant.state, one.variant.runtime) for one in made} == {(VariantState.READY, "cascade")}
    assert made[0].calibrated.escalated < made[1].calibrated.escalated < 1
    profiles = [await get_profile(store_pool, one.variant.name) for one in made]
    alone = await get_profile(store_pool, GUESS)
    assert profiles[0] is not None
    assert profiles[1] is not None
    assert alone is not None
    assert alone.accuracy < profiles[0].accuracy <= profiles[1].accuracy <= 1
    assert profiles[0].accuracy_source is AccuracySource.MEASURED
    assert profiles[0].samples >= 300
    assert profiles[0].samples + 100 <= ROWS, "other rows calibrate"
    assert all(point.mean_s is not None for point in profiles[0].latency)
    assert len(progress.steps) >= 3
    assert [one.calibrated for one in await cascade(thresholds=(0.6,))] == [made[0].calibrated]
    assert await get_profile(store_pool, made[0].variant.name) == profiles[0], "what is registered is not done again"
    found = await cascade(min_accuracies=(0.97,))
    assert found[0].calibrated.accuracy >= 0.97
    assert found[0].calibrated.escalated < 1
    architecture = await get_architecture(store_pool, "guess-or-sure")
    assert architecture is not None
    assert architecture.source_format == "cascade"
    document = read_document(artifacts.path(made[0].variant.artifact))
    assert [stage.variant for stage in document.stages] == [GUESS, SURE]


async def test_cascade_answers_each_row_by_confident_stage(
    cascade: Callable[..., Any], store_pool: Pool, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    made = await cascade(thresholds=(0.8,))
    catalog = await load_catalog(store_pool)
    loaded = {
        name: load_session(find_model(catalog, name, 4), artifacts, 1) for name in (GUESS, SURE, made[0].variant.name)
    }
    x = np.random.default_rng(5).normal(size=(64, FEATURES)).astype(np.float32)
    guess, sure, answered = (loaded[name].session.infer({"x": x})["scores"] for name in loaded)
    exp = np.exp(guess - guess.max(axis=1, keepdims=True))
    is_sure = (1 / exp.sum(axis=1)) >= 0.8
    assert 0 < is_sure.sum() < 64
    assert np.array_equal(answered[is_sure], guess[is_sure])
    assert np.allclose(answered[~is_sure], sure[~is_sure], rtol=1e-5)
    probe = loaded[made[0].variant.name].probe
    scores = loaded[GUESS].session.infer(probe)["scores"]
    assert 1 / np.exp(scores - scores.max()).sum() < 0.8, "a worker warms up, and probes, both stages"
    assert await delete_architecture(store_pool, "sure")
    model = find_model(await load_catalog(store_pool), made[0].variant.name, 4)
    goes_on = load_session(model, artifacts, 1).session
    assert np.array_equal(goes_on.infer({"x": x})["scores"], answered), "a stage is an artifact, registered or not"


@pytest.mark.needs_minutes
async def test_invalid_cascade_is_refused_without_traces(
    cascade: Callable[..., Any], make_samples: Callable[..., Path], store_pool: Pool, tmp_path: Path
) -> None:
    before = {path.name for path in (tmp_path / "artifacts").iterdir()}
    for changes, error, text in (
        ({"then": GUESS}, InvalidRequest, "needs two different variants"),
        ({"first": SURE, "then": GUESS}, InvalidRequest, "is no more accurate than"),
        ({"then": "none.onnx-fp32.cpu"}, OperatorError, "not registered and ready"),
        ({"task": "other"}, OperatorError, "there is no task 'other'"),
        ({"thresholds": (1.5,)}, InvalidRequest, "above 0 and at most 1"),
        ({"confidence": "entropy"}, InvalidRequest, "softmax, probability, or an output"),
        ({"name": "kind"}, InvalidRequest, "both a task and an architecture"),
        ({"name": "sure"}, OperatorError, "registered with other content"),
        ({"validation": make_samples("few.npz", count=150)}, InvalidRequest, "at least 200 are needed"),
        ({"min_accuracies": (1.01,)}, InvalidRequest, "no threshold reaches an accuracy of"),
    ):
        with pytest.raises(error, match=text):
            await cascade(**changes)
    assert {path.name for path in (tmp_path / "artifacts").iterdir()} == before
    assert {variant.architecture for variant in await list_variants(store_pool)} == {"guess", "sure"}


@pytest.mark.needs_minutes
async def test_failed_cascade_keeps_files_of_others(
    cascade: Callable[..., Any],
    validation: Path,
    store_pool: Pool,
    artifacts: ArtifactStore,
    progress: Quiet,
    tmp_path: Path,
) -> None:
    """The same stages and threshold under another name give the same document, hence the same file."""
    await cascade(thresholds=(0.8,))
    kept = {path.name for path in (tmp_path / "artifacts").iterdir()}
    nobody = KafkaSettings(bootstrap="127.0.0.1:1", request_timeout_ms=1000)
    for threshold in (0.8, 0.7):
        other = CascadeRequest(
            task="kind", first=GUESS, then=SURE, validation=validation, name="other", thresholds=(threshold,)
        )
        with pytest.raises(OperatorError, match=r"127\.0\.0\.1:1"):
            await register_cascade(other, store_pool, nobody, artifacts, progress)
        assert {path.name for path in (tmp_path / "artifacts").iterdir()} == kept


async def test_find_cascades_is_empty_without_saving(
    stages: None, validation: Path, store_pool: Pool, artifacts: ArtifactStore, progress: Quiet
) -> None:
    """Both models take the same few microseconds, so a cascade saves nothing."""
    assert await find_cascades("kind", validation, None, store_pool, artifacts, progress) == ()
    assert requests_for("kind", (), validation, None) == []
