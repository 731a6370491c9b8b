"""Tests of reading signatures from models and of comparing them with tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from registry.pipeline.input_bounds import id_bounds
from registry.pipeline.inspection import read_signature
from registry.pipeline.source_format import SourceFormat
from registry.signature import Signature, check_task
from runtimes.onnx import OnnxSession
from schemas.errors import InvalidRequest
from schemas.rows.catalog import Task, TensorSpec
from schemas.tensors import DTYPES
from zoo.minilm import build_minilm
from zoo.samples import DATA

X = TensorSpec(name="x", datatype="FP32", shape=(-1, 4))
SCORES = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))
TASK = Task(name="kind", inputs=(X, TensorSpec(name="mask", datatype="INT64", shape=(-1, -1))), outputs=(SCORES,))


def _spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def test_read_signature_reads_names_datatypes_and_shapes(make_model: Callable[..., Path]) -> None:
    assert read_signature(make_model(), SourceFormat.ONNX) == Signature(inputs=(X,), outputs=(SCORES,))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": [2, 4], "scores": [2, 3]}, "first dimension is the batch"),
        ({"scores": [5, 3], "x": ["batch", 4]}, "not a valid ONNX model|first dimension is the batch"),
        ({"nodes": [helper.make_node("NoSuchOperator", ["x"], ["scores"])]}, "not a valid ONNX model"),
        ({"nodes": [helper.make_node("MatMul", ["x", "elsewhere"], ["scores"])]}, "not a valid ONNX model"),
        ({"datatype": TensorProto.BFLOAT16, "weights": np.ones((4, 3), np.float32)}, "no datatype|not a valid"),
    ],
)
def test_read_signature_refuses_unservable_models(
    make_model: Callable[..., Path], change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_signature(make_model(**change), SourceFormat.ONNX)


def test_read_signature_refuses_truncated_file(tmp_path: Path, make_model: Callable[..., Path]) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(make_model().read_bytes()[:60])
    with pytest.raises(InvalidRequest, match=r"damaged|not a valid"):
        read_signature(path, SourceFormat.ONNX)


def test_read_signature_refuses_sequence_output(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, None)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph([helper.make_node("SequenceConstruct", ["x"], ["scores"])], "g", [x], [sequence])
    path = tmp_path / "sequence.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    with pytest.raises(InvalidRequest, match="is not a tensor"):
        read_signature(path, SourceFormat.ONNX)


def test_check_task_allows_unused_and_wider_inputs() -> None:
    check_task(TASK, Signature(inputs=(_spec("x", "FP32", -1, -1),), outputs=(SCORES,)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "said"),
    [
        ((_spec("y", "FP32", -1, 4),), (SCORES,), "has no input 'y'"),
        ((_spec("x", "FP64", -1, 4),), (SCORES,), "input 'x' is FP32, but FP64 in the model"),
        ((_spec("x", "FP32", -1, 5),), (SCORES,), r"shape \[-1, 4\], but \[-1, 5\] in the model"),
        ((_spec("x", "FP32", -1, 4, 1),), (SCORES,), "in the model"),
        ((_spec("mask", "INT64", -1, 32),), (SCORES,), r"shape \[-1, -1\], but \[-1, 32\] in the model"),
        ((X,), (_spec("logits", "FP32", -1, 3),), "has the outputs scores; the model has logits"),
        ((X,), (SCORES, _spec("more", "FP32", -1, 3)), "the model has scores, more"),
        ((X,), (_spec("scores", "FP32", -1, 2),), "output 'scores'"),
    ],
)
def test_check_task_names_each_difference(
    inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check_task(TASK, Signature(inputs=inputs, outputs=outputs))


def test_signature_output_requires_name_if_ambiguous() -> None:
    embedded, pooled = _spec("embedded", "FP32", -1, 8), _spec("pooled", "FP32", -1, 8)
    named = Signature(inputs=(X,), outputs=(pooled, SCORES))
    assert named.output(None) == SCORES
    assert Signature(inputs=(X,), outputs=(_spec("class", "INT64", -1), pooled)).output(None) == pooled
    several = Signature(inputs=(X,), outputs=(embedded, pooled))
    assert several.output("embedded").shape == (-1, 8)
    with pytest.raises(InvalidRequest, match="several outputs"):
        several.output(None)
    with pytest.raises(InvalidRequest, match="no output 'logits'"):
        several.output("logits")


def test_read_signature_bounds_ids_by_vocabulary(tmp_path: Path) -> None:
    for file in ("sent_fasttext.onnx", "sent_textcnn.onnx"):
        signature = read_signature(DATA / file, SourceFormat.ONNX)
        assert [(spec.name, spec.below) for spec in signature.inputs] == [
            ("input_ids", 30522),
            ("attention_mask", None),
        ]


def test_read_signature_bounds_length_by_position_table(tmp_path: Path) -> None:
    build_minilm(3, tmp_path / "minilm.onnx")
    ids, mask = read_signature(tmp_path / "minilm.onnx", SourceFormat.ONNX).inputs
    assert (ids.below, ids.longest, mask.longest) == (30522, 512, 512)


def test_read_signature_closes_session_of_tried_lengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[OnnxSession] = []

    def close(session: OnnxSession) -> None:
        closed.append(session)

    monkeypatch.setattr(OnnxSession, "close", close)
    build_minilm(3, tmp_path / "minilm.onnx")
    read_signature(tmp_path / "minilm.onnx", SourceFormat.ONNX)
    assert len(closed) == 1


def test_id_bounds_follows_casts_and_reshapes() -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "axis"], ["wide"]),
        helper.make_node("DequantizeLinear", ["small", "scale"], ["table"]),
        helper.make_node("Gather", ["table", "wide"], ["found"]),
        helper.make_node("Add", ["whole", "one"], ["shifted"]),
        helper.make_node("Gather", ["tiny", "shifted"], ["unknown"]),
    ]
    tensors = {"small": np.zeros((7, 3), np.int8), "tiny": np.zeros((2, 3), np.float32)}
    weights = [numpy_helper.from_array(value, name) for name, value in tensors.items()]
    ids = helper.make_tensor_value_info("ids", TensorProto.INT32, ["batch", 4])
    assert id_bounds(helper.make_graph(nodes, "g", [ids], [], weights)) == {"ids": 7}


def test_check_task_requires_rows_for_all_allowed_ids() -> None:
    ids = TensorSpec(name="ids", datatype="INT64", shape=(-1, 4), below=10)
    task = Task(name="t", inputs=(ids,), outputs=(SCORES,))
    for rows in (None, 10, 11):
        check_task(task, Signature(inputs=(replace(ids, below=rows),), outputs=(SCORES,)))
    with pytest.raises(InvalidRequest, match="goes up to 9, the model's table has 9 rows"):
        check_task(task, Signature(inputs=(replace(ids, below=9),), outputs=(SCORES,)))


@pytest.mark.parametrize(("datatype", "value"), [("BOOL", True), ("UINT64", 2**64 - 1), ("FP16", 0.5)])
def test_task_with_default_of_parameter_is_readable(datatype: str, value: float) -> None:
    """The catalogue holds tasks as JSON: one that cannot be read would make all of them unreadable."""
    signature = Signature(inputs=(X, _spec("p", datatype, -1)), outputs=(SCORES,)).with_parameters(["p"])
    inputs = signature.with_defaults({"p": np.full(3, value, DTYPES[datatype])}).inputs
    task = Task(name="t", inputs=inputs, outputs=(SCORES,))
    read = msgspec.json.decode(msgspec.json.encode(task), type=Task)
    assert read == task
    assert read.inputs[1].default == value
    assert type(read.inputs[1].default) is type(value)


def test_with_parameters_refuses_scalar_text() -> None:
    with pytest.raises(InvalidRequest, match="input 'text' is a scalar text, which no query can set"):
        Signature(inputs=(X, _spec("text", "BYTES", -1)), outputs=(SCORES,)).with_parameters(["text"])
