"""Tests of `ProcessedSession`: a model with its processing steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.catalog import find_runtime
from runtimes.processing.session import ProcessedSession, RefusedRows
from runtimes.protocol import LoadOptions, Session, Tensors
from schemas.rows.catalog import PoolTokens, Processing, Softmax, Tokenise, TopClasses
from schemas.signature import TensorSpec
from tests.processing_files import text_model, token_model, token_vectors, write_tokenizer

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


RETURNED = (
    TensorSpec(name="last_hidden_state", datatype="FP32", shape=(-1, -1, 3), axes=("", "sequence", "")),
    TensorSpec(name="pooler_output", datatype="FP32", shape=(-1, 3)),
)


def encoder(tmp_path: Path, *after: TopClasses | PoolTokens) -> ProcessedSession:
    """Load a model that answers each token, with processing."""
    session = find_runtime("onnx").load(token_model(tmp_path / "t.onnx"), "cpu", LoadOptions(precision="fp32"))
    step = Tokenise(tokenizer=str(write_tokenizer(tmp_path / "tokenizer.json")), max_tokens=64)
    return ProcessedSession(
        session,
        Processing(before=step, after=after, tensors=TENSORS, returned=RETURNED, scores="last_hidden_state"),
    )


@pytest.mark.parametrize("mixes", [True, False])
def test_processed_session_pads_sequences_of_texts(tmp_path: Path, mixes: bool) -> None:
    session = encoder(tmp_path)
    session.mix_lengths(mixes)
    found = session.infer(texts(*TEXTS))
    lengths: NDArray[Any] = found["lengths"]
    assert lengths.tolist() == [len(text.split()) for text in TEXTS]
    hidden: NDArray[Any] = found["last_hidden_state"]
    assert hidden.shape == (len(TEXTS), max(lengths), 3)
    for index, text in enumerate(TEXTS):
        real = lengths[index]
        np.testing.assert_allclose(hidden[index, :real], token_vectors(text), rtol=1e-5)
        assert not hidden[index, real:].any()
        alone: NDArray[Any] = session.infer(texts(text))["last_hidden_state"]
        np.testing.assert_allclose(alone, hidden[index : index + 1, :real], rtol=1e-5)


def test_processed_session_labels_tokens_with_offsets(tmp_path: Path) -> None:
    names = tmp_path / "labels.txt"
    names.write_text("one\ntwo\nthree\n")
    found = encoder(tmp_path, TopClasses(labels=str(names))).infer(texts("a very good film", "bad"))
    best = token_vectors("a very good film").argmax(axis=1)
    labels: NDArray[Any] = found["label"]
    assert labels[0, :, 0].tolist() == [(b"one", b"two", b"three")[index] for index in best]
    assert labels[1, 1:, 0].tolist() == [b""] * 3
    offsets: NDArray[Any] = found["offsets"]
    assert offsets.tolist() == [[[0, 1], [2, 6], [7, 11], [12, 16]], [[0, 3], [0, 0], [0, 0], [0, 0]]]


def test_processed_session_pools_real_tokens(tmp_path: Path) -> None:
    found = encoder(tmp_path, PoolTokens(mode="mean", normalise=True)).infer(texts(*TEXTS))
    assert set(found) == {"sentence_embedding", "pooler_output"}
    means = np.array([token_vectors(text).mean(axis=0) for text in TEXTS])
    wanted = means / np.linalg.norm(means, axis=1, keepdims=True)
    vectors: NDArray[Any] = found["sentence_embedding"]
    np.testing.assert_allclose(vectors, wanted, rtol=1e-5)


def test_processed_session_names_output_of_unknown_shape(tmp_path: Path) -> None:
    session = encoder(tmp_path)
    session.outputs = ()
    session.mix_lengths(False)
    with pytest.raises(ValueError, match=r"shape of output 'last_hidden_state' depends on the input .* one input in a"):
        session.infer(texts("good", "a very good film"))
