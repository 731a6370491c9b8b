"""Tests of `ProcessedSession`: a model with its processing steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.catalog import find_runtime
from runtimes.processing.session import ProcessedSession, RefusedRows
from runtimes.protocol import LoadOptions, Session, Tensors
from schemas.rows.catalog import Processing, Softmax, Tokenise, TopClasses
from schemas.signature import TensorSpec
from tests.processing_files import text_model, write_tokenizer

TENSORS = tuple(TensorSpec(name=name, datatype="INT64", shape=(-1, -1)) for name in ("input_ids", "attention_mask"))
TEXTS = ("good", "bad bad film " * 10, "a good good film", "very bad", "film " * 40)


class Watched:
    """Session that records the shapes of its batches."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.shapes: list[tuple[int, ...]] = []

    def infer(self, inputs: Tensors) -> dict[str, NDArray[np.generic]]:
        self.shapes.append(inputs["input_ids"].shape)
        return self.session.infer(inputs)

    def close(self) -> None:
        self.session.close()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    model = find_runtime("onnx").load(text_model(tmp_path / "m.onnx"), "cpu", LoadOptions(precision="fp32"))
    return Watched(model)


def processed(watched: Watched, tmp_path: Path) -> ProcessedSession:
    step = Tokenise(tokenizer=str(write_tokenizer(tmp_path / "tokenizer.json")), max_tokens=64)
    after = (Softmax(), TopClasses())
    return ProcessedSession(watched, Processing(before=step, after=after, tensors=TENSORS, scores="scores"))


def texts(*values: str) -> dict[str, NDArray[Any]]:
    return {"text": np.array([value.encode() for value in values], object)}


def test_processed_session_keeps_order_of_texts(watched: Watched, tmp_path: Path) -> None:
    session = processed(watched, tmp_path)
    together = session.infer(texts(*TEXTS))
    assert together["class"].tolist() == [[1], [0], [1], [0], [0]]
    assert watched.shapes == [(3, 4), (2, 40)], "short ones together, and long ones"
    scores: NDArray[Any] = together["scores"]
    for index, text in enumerate(TEXTS):
        alone: NDArray[Any] = session.infer(texts(text))["scores"]
        np.testing.assert_allclose(alone, scores[index : index + 1])


def test_processed_session_separates_lengths_if_required(watched: Watched, tmp_path: Path) -> None:
    session = processed(watched, tmp_path)
    session.mix_lengths(False)
    session.infer(texts("good", "good film", "bad"))
    assert watched.shapes == [(2, 1), (1, 2)]


def test_processed_session_names_refused_rows(watched: Watched, tmp_path: Path) -> None:
    with pytest.raises(RefusedRows, match="tokens") as refused:
        processed(watched, tmp_path).infer(texts("good", "film " * 65, "bad"))
    assert list(refused.value.errors) == [1]
    assert watched.shapes == []
