"""Tests of ONNX models with operators of onnxruntime-extensions, such as text processing."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from schemas.errors import OperatorError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Model that scores a text by its length, with an operator of onnxruntime-extensions."""
    graph = helper.make_graph(
        [
            helper.make_node("StringLength", ["text"], ["length"], domain="ai.onnx.contrib"),
            helper.make_node("Cast", ["length"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["number", "last"], ["scores"]),
        ],
        "lengths",
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["batch"])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(np.array([1]), "last")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.contrib", 1)]
    path = tmp_path / "lengths.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def test_onnx_loads_extension_operators(model: Path) -> None:
    pytest.importorskip("onnxruntime_extensions")
    session = find_runtime("onnx").load(model, "cpu", LoadOptions(precision="fp32"))
    texts: dict[str, Any] = {"text": np.array([b"good", b"a film"], object)}
    assert session.infer(texts)["scores"].tolist() == [[4.0], [6.0]]


def test_onnx_names_missing_extensions_package(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(OperatorError, match=r"pip install 'infaas\[extensions\]'"):
        find_runtime("onnx").load(model, "cpu", LoadOptions(precision="fp32"))
