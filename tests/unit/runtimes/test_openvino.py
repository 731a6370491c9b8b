"""Tests of the openvino runtime on real models: results, precision, threads and errors."""

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtimes import intel, openvino
from runtimes.catalog import find_runtime
from runtimes.device import computes_bf16
from runtimes.protocol import LoadOptions, Session
from schemas.errors import ModelFailed, OperatorError
from tests.model_files import WEIGHTS, make_model

__all__ = ["make_model"]
MakeModel = Callable[..., Path]


def _load(model: Path, precision: str = "fp32", **options: Any) -> Session:
    return find_runtime("openvino").load(model, "cpu", LoadOptions(precision=precision, **options))


def test_openvino_computes_batches_of_any_size(make_model: MakeModel) -> None:
    session = _load(make_model())
    for batch in (1, 7, 3):
        x = np.random.default_rng(0).random((batch, 4), dtype=np.float32)
        assert np.allclose(session.infer({"x": x})["scores"], x @ WEIGHTS, rtol=1e-5)


def test_openvino_results_survive_later_computations(make_model: MakeModel) -> None:
    """Results must be copies of the infer request's memory, which the next request reuses."""
    session = _load(make_model())
    first = session.infer({"x": np.ones((2, 4), np.float32)})["scores"]
    session.infer({"x": np.zeros((2, 4), np.float32)})
    assert np.allclose(first, WEIGHTS.sum(axis=0))


def test_openvino_ignores_unused_inputs_and_accepts_views(make_model: MakeModel) -> None:
    session = _load(make_model())
    x = np.random.default_rng(1).random((8, 4), dtype=np.float32)
    assert np.allclose(session.infer({"x": x[::2], "unused": x})["scores"], x[::2] @ WEIGHTS, rtol=1e-5)


@pytest.mark.parametrize("lanes", [1, 2])
def test_openvino_session_serves_more_threads_than_lanes(make_model: MakeModel, lanes: int) -> None:
    session = _load(make_model(), lanes=lanes)

    def compute(value: int) -> Any:
        return session.infer({"x": np.full((2, 4), value, np.float32)})["scores"]

    with ThreadPoolExecutor(4) as threads:
        for value, scores in enumerate(threads.map(compute, range(200))):
            assert np.allclose(scores, value * WEIGHTS.sum(axis=0), rtol=1e-5)


def test_openvino_computes_in_requested_precision(make_model: MakeModel) -> None:
    """OpenVINO's default is BF16, without a message, if the CPU supports it; other CPUs convert, and are not tested."""
    weights = np.random.default_rng(3).normal(size=(256, 64)).astype(np.float32)
    model = make_model(weights=weights, x=["batch", 256], scores=["batch", 64])
    x = np.random.default_rng(4).normal(size=(32, 256)).astype(np.float32)
    exact = x.astype(np.float64) @ weights

    def error(precision: str) -> float:
        scores: Any = _load(model, precision).infer({"x": x})["scores"]
        return float(np.abs(scores - exact).max())

    assert error("fp32") < 1e-3
    if computes_bf16():
        assert 1e-3 < error("bf16") < 1


@pytest.mark.parametrize(("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16"), ("fp16", "f16"), ("int8", "f32")])
def test_openvino_always_sets_precision(
    precision: str, hint: str, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[dict[str, Any]] = []

    def compile_model(_model: Any, _device: str, given: dict[str, Any]) -> Any:
        settings.append(given)
        return SimpleNamespace(inputs=[], outputs=[], create_infer_request=object)

    core = SimpleNamespace(read_model=str, compile_model=compile_model)
    monkeypatch.setattr(openvino, "_core", lambda: core)
    _load(make_model(), precision)
    assert [given["INFERENCE_PRECISION_HINT"] for given in settings] == [hint]


def test_openvino_session_survives_failed_batch(make_model: MakeModel) -> None:
    session = _load(make_model())
    for _ in range(3):
        with pytest.raises(RuntimeError):
            session.infer({"x": np.zeros((1, 5), np.float32)})
    assert session.infer({"x": np.zeros((1, 4), np.float32)})["scores"].shape == (1, 3)


def test_openvino_names_unknown_operator(make_model: MakeModel) -> None:
    with pytest.raises(ModelFailed, match="OpenVINO has no operator NoSuchOperator"):
        _load(make_model(nodes=[helper.make_node("NoSuchOperator", ["x"], ["scores"])]))


@pytest.mark.parametrize(
    ("hardware", "reason"),
    [
        ("intel-gpu", "no Intel GPU on this machine"),
        ("intel-npu", "no Intel NPU on this machine"),
        ("cuda", "does not run on cuda"),
    ],
)
def test_openvino_refuses_absent_device(
    hardware: str, reason: str, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intel, "_CLASSES", tmp_path)
    with pytest.raises(OperatorError, match=reason):
        find_runtime("openvino").load(make_model(), hardware, LoadOptions(precision="fp32"))


def test_openvino_reports_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_spec(_name: str) -> None:
        return None

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    answer = find_runtime("openvino").availability("cpu")
    assert not answer.available
    assert "infaas[openvino]" in answer.reason


def test_openvino_names_unsupported_operator_with_domain(tmp_path: Path) -> None:
    node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.5)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("x", "y")]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelFailed, match=r"^OpenVINO has no operator ai.onnx.ml.Binarizer, which the model needs$"):
        find_runtime("openvino").load(tmp_path / "m.onnx", "cpu", LoadOptions(precision="fp32"))
