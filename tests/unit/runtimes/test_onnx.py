"""Tests of ONNX models with onnxruntime."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtimes import cuda, intel, neuron
from runtimes.catalog import all_runtimes, available_runtimes, find_runtime
from runtimes.onnx import BoundOnnxSession
from runtimes.protocol import Availability, LoadOptions
from schemas.errors import OperatorError
from schemas.hardware import Hardware

FP32 = LoadOptions(precision="fp32")


@pytest.fixture
def doubler(tmp_path: Path) -> Path:
    """Model y = x + x."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([node], "doubler", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    path = tmp_path / "doubler.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def echo(tmp_path: Path) -> Path:
    """Model that returns its text."""
    node = helper.make_node("Identity", ["text"], ["same"])
    text, same = (helper.make_tensor_value_info(name, TensorProto.STRING, ["batch"]) for name in ("text", "same"))
    model = helper.make_model(
        helper.make_graph([node], "echo", [text], [same]), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    path = tmp_path / "echo.onnx"
    onnx.save(model, path)
    return path


def test_bound_onnx_session_returns_same_results(doubler: Path, echo: Path) -> None:
    """The CPU is the bound device; on CUDA the same calls copy."""
    bound = BoundOnnxSession(onnxruntime.InferenceSession(doubler, providers=["CPUExecutionProvider"]), "cpu")
    x = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert not x.flags.c_contiguous
    assert np.array_equal(bound.infer({"x": x, "unused": x})["y"], x + x)
    text = BoundOnnxSession(onnxruntime.InferenceSession(echo, providers=["CPUExecutionProvider"]), "cpu")
    assert text.infer({"text": np.array([b"a"], object)})["same"].tolist() == [b"a"]


def test_onnx_computes_batches_of_any_size(doubler: Path) -> None:
    session = find_runtime("onnx").load(doubler, "cpu", FP32)
    for batch in (1, 7):
        x = np.random.default_rng(0).random((batch, 3), dtype=np.float32)
        assert np.array_equal(session.infer({"x": x})["y"], x + x)


def test_onnx_ignores_unused_inputs(doubler: Path) -> None:
    session = find_runtime("onnx").load(doubler, "cpu", FP32)
    x = np.ones((1, 3), np.float32)
    assert set(session.infer({"x": x, "unused": x})) == {"y"}


def test_onnx_session_is_thread_safe(doubler: Path) -> None:
    session = find_runtime("onnx").load(doubler, "cpu", FP32)

    def compute(value: int) -> float:
        return float(session.infer({"x": np.full((4, 3), value, np.float32)})["y"].sum())

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(compute, range(200))) == [24.0 * value for value in range(200)]


def test_onnx_session_takes_and_returns_bytes(echo: Path) -> None:
    session = find_runtime("onnx").load(echo, "cpu", FP32)
    text = np.array(["größer".encode(), b"", b"x"], dtype=object)
    assert session.infer({"text": text})["same"].tolist() == text.tolist()


def test_onnx_refuses_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        find_runtime("onnx").load(path, "cpu", FP32)


def test_runtime_availability_gives_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No runtime has a device besides the CPU here: their drivers are hidden."""
    monkeypatch.setattr(cuda, "availability", lambda: Availability(False, "no CUDA driver"))
    monkeypatch.setattr(neuron, "_DEVICES", tmp_path)
    monkeypatch.setattr(intel, "_CLASSES", tmp_path)
    for runtime in all_runtimes():
        for hardware in Hardware:
            answer = runtime.availability(hardware)
            assert answer.available != bool(answer.reason), (runtime.name, hardware)
            assert not answer.available or hardware is Hardware.CPU, (runtime.name, hardware)


def test_onnx_is_available_on_cpu() -> None:
    assert "onnx" in available_runtimes("cpu")


@pytest.mark.skipif(cuda.availability().available, reason="this machine has a CUDA device")
def test_onnx_refuses_cuda_without_device(doubler: Path) -> None:
    with pytest.raises(OperatorError, match=r"CUDAExecutionProvider|CUDA driver"):
        find_runtime("onnx").load(doubler, "cuda", FP32)


def test_onnx_reports_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    answer = find_runtime("onnx").availability("cpu")
    assert not answer.available
    assert "infaas[cpu]" in answer.reason


def test_find_runtime_lists_known_runtimes() -> None:
    with pytest.raises(OperatorError, match=r"unknown runtime 'caffe'; known are onnx"):
        find_runtime("caffe")


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
