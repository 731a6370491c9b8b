"""Tests of the zoo: registration, and the models that it builds."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from broker.kafka.settings import KafkaSettings
from registry.artifacts import ArtifactStore
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.rows.catalog import VariantState
from store.pool import Pool
from store.registry import list_profiles
from zoo.minilm import build_minilm
from zoo.register import register_zoo
from zoo.samples import labelled

pytestmark = pytest.mark.needs_minutes


class Steps:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def step(self, done: int, total: int, text: str) -> None:
        assert text
        self.seen.append((done, total))

    def note(self, text: str) -> None:
        raise AssertionError(f"the zoo leaves nothing to guess: {text}")


async def test_zoo_task_registers_with_expected_accuracy(
    store_pool: Pool, kafka: KafkaSettings, tmp_path: Path
) -> None:
    steps, artifacts, cache = Steps(), ArtifactStore(tmp_path / "artifacts"), tmp_path / "cache"
    variants = await register_zoo(store_pool, kafka, artifacts, steps, cache, tasks=("digits",), max_batch=2)
    assert {variant.architecture for variant in variants} == {"digits-linear", "digits-mlp", "digits-cnn"}
    assert {variant.state for variant in variants} == {VariantState.READY}
    accuracy = {profile.variant: profile.accuracy for profile in await list_profiles(store_pool)}
    assert accuracy["digits-linear.onnx-fp32.cpu"] == pytest.approx(0.943, abs=0.001)
    assert accuracy["digits-cnn.onnx-fp32.cpu"] == pytest.approx(0.993, abs=0.001)
    assert steps.seen[1:] == sorted(steps.seen[1:])
    assert steps.seen[-1] == (9, 9)
    again = await register_zoo(store_pool, kafka, artifacts, steps, cache, tasks=("digits",), max_batch=2)
    assert again == variants


@pytest.mark.parametrize(("depth", "accuracy"), [(3, 0.87), (6, 0.885)])
def test_minilm_is_built_from_pack(tmp_path: Path, depth: int, accuracy: float) -> None:
    path = tmp_path / "cache" / "minilm.onnx"
    build_minilm(depth, path)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = find_runtime("onnx").load(path, "cpu", LoadOptions(precision="fp32", threads=2))
    inputs, labels = labelled("sentiment")
    few = {name: array[:200] for name, array in inputs.items()}
    hits = session.infer(few)["logits"].argmax(axis=1) == labels[:200]
    # The standard error of 200 inputs is 2.3 points.
    assert hits.mean() == pytest.approx(accuracy, abs=0.07)
    padded = {name: np.pad(array[:4], ((0, 0), (0, 16))) for name, array in inputs.items()}
    short = session.infer({name: array[:4] for name, array in inputs.items()})["logits"]
    assert np.allclose(session.infer(padded)["logits"], short, atol=1e-4), "padding must not change the result"
