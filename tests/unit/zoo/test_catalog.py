"""Tests of the zoo's catalog of models."""

from pathlib import Path

import pytest

from schemas.errors import OperatorError
from zoo.catalog import MODELS, models_of
from zoo.minilm import build_minilm
from zoo.samples import ALL_TASKS


def test_build_minilm_reports_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OperatorError, match="cannot write"):
        build_minilm(3, tmp_path / "file" / "minilm.onnx")


def test_models_of_covers_tasks_and_rejects_unknown() -> None:
    assert {model.task for model in models_of(())} == set(ALL_TASKS)
    assert models_of(()) == tuple(model for model in MODELS if not model.on_demand)
    with pytest.raises(OperatorError, match="no task 'speech'"):
        models_of(("mnist", "speech"))
