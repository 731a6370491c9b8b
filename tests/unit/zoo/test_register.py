"""Tests of `register_zoo`: its registrations and the files that it prepares."""

import asyncio
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from broker.kafka.settings import KafkaSettings
from infaas.up.optional_zoo import zoo_files
from registry.artifacts import ArtifactStore
from registry.register import step_count
from registry.request import ProgressSink, Registration
from registry.step_runner import StepRunner
from schemas.errors import OperatorError
from schemas.rows.catalog import Variant
from store.pool import Pool
from tests.model_files import Quiet
from zoo.catalog import MODELS, ZooModel
from zoo.register import labelled_files, register_zoo
from zoo.samples import labelled


def test_labelled_files_are_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = labelled_files("digits", tmp_path)
    assert zoo_files("digits", tmp_path) == files
    read = list[str]()
    monkeypatch.setattr("zoo.register.labelled", read.append)
    monkeypatch.setattr("zoo.samples.labelled", read.append)
    assert zoo_files("digits", tmp_path) == labelled_files("digits", tmp_path) == files
    assert zoo_files("weather", tmp_path) is None
    assert read == []


def test_labelled_files_may_be_written_by_two_processes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = np.savez
    others = list[Path]()

    def save_late(*args: Any, **arrays: Any) -> None:
        monkeypatch.setattr("zoo.register.np.savez", save)
        others.extend(labelled_files("digits", tmp_path))
        save(*args, **arrays)

    monkeypatch.setattr("zoo.register.np.savez", save_late)
    files = labelled_files("digits", tmp_path)
    assert list(files) == others
    assert sorted(tmp_path.iterdir()) == sorted(files)
    with np.load(files.validation) as rows:
        assert len(rows["label"]) == len(labelled("digits")[1])


@pytest.mark.parametrize("all_variants", [False, True])
async def test_register_zoo_limits_variants_by_default(
    all_variants: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Registration] = []

    async def note(
        request: Registration, _pool: Pool, _kafka: Any, _artifacts: Any, _bar: ProgressSink, _runner: StepRunner
    ) -> list[Variant]:
        asked.append(request)
        return []

    monkeypatch.setattr("zoo.register.register", note)
    nowhere = (cast("Pool", None), KafkaSettings(), ArtifactStore(tmp_path), Quiet(), tmp_path / "cache")
    await register_zoo(*nowhere, tasks=("digits",), all_variants=all_variants)
    assert [request.architecture for request in asked] == ["digits-linear", "digits-cnn", "digits-mlp"]
    assert all((request.variants == ()) is all_variants for request in asked)
    made = [await step_count(request) - 1 for request in asked]
    assert all(count >= 5 if all_variants else count == 2 for count in made)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Architectures in the order in which their registrations begin; that of fastText fails."""
    found = list[str]()

    def describe(model: ZooModel, _cache: Path) -> Registration:
        return Registration(architecture=model.architecture, task=model.task, file=Path(model.architecture))

    async def register(request: Registration, *_services: Any) -> list[Variant]:
        found.append(request.architecture)
        await asyncio.sleep(0)
        if request.architecture == "fasttext":
            raise OperatorError("the disk is full")
        return []

    monkeypatch.setattr("zoo.register._request", describe)
    monkeypatch.setattr("zoo.register.register", register)
    return found


async def test_register_zoo_begins_with_one_model_of_each_task(begun: list[str], tmp_path: Path) -> None:
    nowhere = (cast("Pool", None), KafkaSettings(), ArtifactStore(tmp_path), Quiet(), tmp_path / "cache")
    await register_zoo(*nowhere, tasks=("digits", "mnist", "sentiment-text", "mnist-image"))
    task_of = {model.architecture: model.task for model in MODELS}
    assert [task_of[name] for name in begun[:4]] == ["digits", "mnist", "sentiment-text", "mnist-image"]
    assert begun[4:6] == ["minilm-l6-text", "fasttext-text"], "the largest of the others first"
    assert len(begun) == len(set(begun)) == 14


async def test_register_zoo_raises_error_of_model_itself(begun: list[str], tmp_path: Path) -> None:
    nowhere = (cast("Pool", None), KafkaSettings(), ArtifactStore(tmp_path), Quiet(), tmp_path / "cache")
    with pytest.raises(OperatorError, match="the disk is full"):
        await register_zoo(*nowhere, tasks=("sentiment",))
    assert begun == ["fasttext"]
