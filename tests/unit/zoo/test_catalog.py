"""The zoo's models, before any is registered."""

from pathlib import Path

import pytest

from schemas.errors import OperatorError
from zoo.catalog import MODELS, models_of
from zoo.minilm import build_minilm
from zoo.samples import ALL_TASKS


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OperatorError, match="cannot write"):
        build_minilm(3, tmp_path / "file" / "minilm.onnx")


def test_every_task_has_models_and_an_unknown_one_is_named() -> None:
    assert {model.task for model in MODELS} == set(ALL_TASKS)
    assert models_of(()) == MODELS
    with pytest.raises(OperatorError, match="no task 'speech'"):
        models_of(("mnist", "speech"))
