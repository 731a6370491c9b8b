"""Tests of the generators: similar outputs, and the declared number format."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from registry.pipeline.generation import GenerateVariant
from registry.pipeline.generators.onnx import quantise_nncf, to_fp16
from registry.pipeline.generators.static_int8 import quantise_static
from registry.recipes import GeneratorKind, NotApplicable
from registry.samples import save_arrays
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions
from tests.model_files import WEIGHTS

MakeModel = Callable[..., Path]


def _scores(model: Path, x: Any) -> Any:
    return find_runtime("onnx").load(model, "cpu", LoadOptions(precision="")).infer({"x": x})["scores"]


def test_to_fp16_keeps_fp32_inputs_and_outputs(make_model: MakeModel, tmp_path: Path) -> None:
    target = tmp_path / "half.onnx"
    to_fp16(make_model(), target)
    model: Any = onnx.load(target)
    assert {tensor.data_type for tensor in model.graph.initializer} == {TensorProto.FLOAT16}
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    found = _scores(target, x)
    assert found.dtype == np.float32
    assert np.allclose(found, x @ WEIGHTS, atol=0.02)
    assert not np.allclose(found, x @ WEIGHTS, atol=1e-6)


def test_to_fp16_refuses_model_without_weights(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(nodes=[helper.make_node("Relu", ["x"], ["scores"])], scores=["batch", 4])
    without: Any = onnx.load(model)
    del without.graph.initializer[:]
    onnx.save(without, model)
    with pytest.raises(NotApplicable, match="no FP32 weights"):
        to_fp16(model, tmp_path / "half.onnx")


class NncfStandIn(ModuleType):
    """Substitute for the part of NNCF 3.4's API that is used."""

    class ModelType:
        TRANSFORMER = "transformer"

    def __init__(self) -> None:
        super().__init__("nncf")
        self.__spec__ = ModuleSpec("nncf", None)
        self.asked: list[tuple[Any, Any, int]] = []

    def Dataset(self, data_source: Sequence[Any]) -> list[Any]:
        return list(data_source)

    def quantize(self, model: Any, calibration_dataset: Any, *, model_type: Any, subset_size: int) -> Any:
        self.asked.append((calibration_dataset, model_type, subset_size))
        return model


@pytest.mark.parametrize(("attends", "kind"), [(False, None), (True, "transformer")])
def test_quantise_nncf_passes_rows_and_model_type(
    attends: bool, kind: str | None, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", nncf := NncfStandIn())
    attention = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["products"]),
        helper.make_node("Softmax", ["products"], ["shares"]),
        helper.make_node("MatMul", ["shares", "x"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "w"], ["scores"]),
    ]
    target = tmp_path / "int8.onnx"
    quantise_nncf(make_model(nodes=attention if attends else None), target, {"x": np.ones((5, 4), np.float32)})
    ((rows, model_type, count),) = nncf.asked
    assert [row["x"].shape for row in rows] == [(1, 4)] * 5
    assert (model_type, count) == (kind, 5)
    assert target.exists()


def _rough_middle(path: Path) -> Path:
    """Write a model of three products; a huge weight in the middle one leaves too few quantisation steps for others."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(8, 8)).astype(np.float32) for _ in range(3)]
    weights[1][7] = 1e5  # multiplied by an activation that is always 0
    weights[0][:, 7] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "w1"], ["b"], name="rough"),
        helper.make_node("MatMul", ["b", "w2"], ["scores"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "rough",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(array, f"w{index}") for index, array in enumerate(weights)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_quantise_static_names_best_calibration(make_model: MakeModel, tmp_path: Path) -> None:
    x = np.random.default_rng(2).normal(size=(64, 4)).astype(np.float32)
    target = tmp_path / "int8.onnx"
    assert quantise_static(make_model(), target, {"x": x}, 0.05) in ("minmax", "entropy", "percentile")
    assert np.mean(_scores(target, x).argmax(axis=1) == (x @ WEIGHTS).argmax(axis=1)) > 0.95


def test_quantise_static_keeps_harmful_layer_in_fp32(tmp_path: Path) -> None:
    model, target = _rough_middle(tmp_path / "rough.onnx"), tmp_path / "int8.onnx"
    inputs = {"x": np.random.default_rng(3).normal(size=(64, 8)).astype(np.float32)}
    original = _scores(model, inputs["x"])

    def lost() -> float:
        return float(np.mean(_scores(target, inputs["x"]).argmax(axis=1) != original.argmax(axis=1)))

    assert "fp32" not in quantise_static(model, target, inputs, 1.0)
    assert lost() > 0.1
    assert quantise_static(model, target, inputs, 0.1).endswith(", 1 of 3 layers in fp32")
    assert lost() <= 0.1


def test_generate_variant_calibrates_fixed_batch_of_one(tmp_path: Path) -> None:
    """The batch is part of a constant shape, as in many networks exported for phones."""
    nodes = [helper.make_node("Reshape", ["x", "flat"], ["y"]), helper.make_node("MatMul", ["y", "w"], ["scores"])]
    values = [helper.make_tensor_value_info(*one) for one in (("x", 1, [1, 2, 2]), ("scores", 1, [1, 3]))]
    weights = {"flat": np.array([1, 4]), "w": np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)}
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    source, samples = tmp_path / "one.onnx", tmp_path / "calibration"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), source)
    save_arrays(samples, {"x": np.random.default_rng(4).normal(size=(20, 2, 2)).astype(np.float32)})
    step = GenerateVariant(GeneratorKind.STATIC_INT8, source, tmp_path / "made", samples, batch=1)
    assert step.run() in ("minmax", "entropy", "percentile")
    with pytest.raises(
        NotApplicable, match="onnxruntime's static quantisation does not support this model: Got invalid"
    ):
        msgspec.structs.replace(step, batch=16).run()
