"""Tests of finding the axes of outputs that are as long as an axis of the inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from registry.pipeline.inspection import InspectModel, read_signature
from registry.pipeline.sequence_axes import with_axes
from registry.pipeline.source_format import SourceFormat
from registry.signature import Signature
from schemas.rows.catalog import PoolTokens, Processing, Tokenise
from tests.model_files import openvino_files
from tests.processing_files import token_model, write_tokenizer


def _found(file: Path) -> Signature:
    return with_axes(read_signature(file, SourceFormat.ONNX), file, SourceFormat.ONNX)


@pytest.mark.parametrize("length", ["sequence_length", "Addlast_hidden_state_dim_1", ""])
def test_with_axes_finds_sequence_of_any_name(tmp_path: Path, length: str) -> None:
    signature = _found(token_model(tmp_path / "m.onnx", length=length))
    assert {spec.axes for spec in signature.inputs} == {("", "sequence_length")}
    assert [spec.axes for spec in signature.outputs] == [("", "sequence_length", ""), ()]


def _save(path: Path, nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> Path:
    given, returned = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in specs.items()]
        for specs in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "g", given, returned)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_with_axes_distinguishes_sequences(tmp_path: Path) -> None:
    """The product has the lengths of both inputs, wrongly named in the file; the sum of the second has no length."""
    nodes = [
        helper.make_node("Transpose", ["other"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["one", "turned"], ["product"]),
        helper.make_node("Constant", [], ["axes"], value_ints=[1, 2]),
        helper.make_node("ReduceSum", ["other", "axes"], ["total"], keepdims=0),
    ]
    file = _save(
        tmp_path / "two.onnx",
        nodes,
        {"one": ["batch", "encoder", 3], "other": ["batch", "decoder", 3]},
        {"product": ["batch", "decoder", "encoder"], "total": ["batch"]},
    )
    signature = _found(file)
    assert [spec.axes for spec in signature.inputs] == [("", "encoder", ""), ("", "decoder", "")]
    assert [spec.axes for spec in signature.outputs] == [("", "encoder", "decoder"), ()]


def test_with_axes_keeps_declared_names_if_model_does_not_run(tmp_path: Path) -> None:
    """The model computes only lengths that are multiples of seven."""
    nodes = [
        helper.make_node("Constant", [], ["half"], value_ints=[0, 4]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1, 3]),
        helper.make_node("Add", ["half", "rest"], ["shape"]),
        helper.make_node("Reshape", ["x", "shape"], ["z"]),
    ]
    file = _save(tmp_path / "m.onnx", nodes, {"x": ["batch", "T"]}, {"z": ["batch", "T"]})
    assert _found(file).outputs[0].axes == ("", "T")


def test_with_axes_finds_sequence_of_openvino_files(tmp_path: Path) -> None:
    from runtimes.openvino import write_openvino_pack

    graph = openvino_files(token_model(tmp_path / "m.onnx"), tmp_path / "model.xml")
    packed = tmp_path / "packed"
    write_openvino_pack(graph, graph.with_suffix(".bin"), packed)
    signature = with_axes(read_signature(packed, SourceFormat.OPENVINO), packed, SourceFormat.OPENVINO)
    assert {spec.name: spec.axes for spec in signature.outputs}["last_hidden_state"] == ("", "sequence", "")


def test_inspection_describes_outputs_of_texts(tmp_path: Path) -> None:
    processing = Processing(before=Tokenise(tokenizer=str(write_tokenizer(tmp_path / "t.json"))))
    model = token_model(tmp_path / "m.onnx")
    found = InspectModel(model, SourceFormat.ONNX, None, None, tmp_path / "copy", processing).run()
    assert found.measured.name == "pooler_output"
    assert [(spec.name, spec.shape) for spec in found.signature.outputs] == [
        ("last_hidden_state", (-1, -1, 3)), ("pooler_output", (-1, 3)), ("lengths", (-1,)),
    ]  # fmt: skip
    assert np.array(found.signature.outputs[0].axes).tolist() == ["", "sequence", ""]


@pytest.mark.parametrize("output", [None, "last_hidden_state", "sentence_embedding"])
def test_inspection_measures_pooled_output_of_texts(tmp_path: Path, output: str | None) -> None:
    """A further model of the task is inspected with the name of the task's measured output."""
    step = Tokenise(tokenizer=str(write_tokenizer(tmp_path / "t.json")))
    processing = Processing(before=step, after=(PoolTokens(),))
    model = token_model(tmp_path / "m.onnx")
    found = InspectModel(model, SourceFormat.ONNX, None, output, tmp_path / "copy", processing).run()
    assert (found.scores, found.measured.name) == ("last_hidden_state", "sentence_embedding")
    assert [spec.name for spec in found.signature.outputs] == ["pooler_output", "sentence_embedding"]
