"""Tests of `register_zoo`: its registrations and the files that it prepares."""

from pathlib import Path
from typing import Any, cast

import pytest

from broker.kafka.settings import KafkaSettings
from infaas.up.optional_zoo import zoo_files
from registry.artifacts import ArtifactStore
from registry.register import step_count
from registry.request import ProgressSink, Registration
from registry.step_runner import StepRunner
from schemas.rows.catalog import Variant
from store.pool import Pool
from tests.model_files import Quiet
from zoo.register import labelled_files, register_zoo


def test_labelled_files_are_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = labelled_files("digits", tmp_path)
    assert zoo_files("digits", tmp_path) == files
    read = list[str]()
    monkeypatch.setattr("zoo.register.labelled", read.append)
    monkeypatch.setattr("zoo.samples.labelled", read.append)
    assert zoo_files("digits", tmp_path) == labelled_files("digits", tmp_path) == files
    assert zoo_files("weather", tmp_path) is None
    assert read == []


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
    assert [request.architecture for request in asked] == ["digits-linear", "digits-mlp", "digits-cnn"]
    assert all((request.variants == ()) is all_variants for request in asked)
    made = [await step_count(request) - 1 for request in asked]
    assert all(count >= 5 if all_variants else count == 2 for count in made)
