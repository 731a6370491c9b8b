"""Small real models and labelled data, among them a linear classifier of three classes whose labels are its answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FEATURES, CLASSES = 4, 3
WEIGHTS = np.random.default_rng(7).normal(size=(FEATURES, CLASSES)).astype(np.float32)

MakeModel = Callable[..., Path]


class Quiet:
    """Progress sink that records its calls."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, str]] = []
        self.notes: list[str] = []

    def step(self, done: int, total: int, text: str) -> None:
        self.steps.append((done, total, text))

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def progress() -> Quiet:
    return Quiet()


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Return a function that writes a model `scores = f(x)`, by default `x @ WEIGHTS`."""

    def make(
        name: str = "linear.onnx",
        *,
        nodes: list[Any] | None = None,
        weights: np.ndarray[Any, Any] = WEIGHTS,
        x: list[Any] | None = None,
        scores: list[Any] | None = None,
        datatype: int = TensorProto.FLOAT,
        output: str = "scores",
    ) -> Path:
        graph = helper.make_graph(
            nodes or [helper.make_node("MatMul", ["x", "w"], [output])],
            "linear",
            [helper.make_tensor_value_info("x", datatype, x or ["batch", FEATURES])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, scores or ["batch", CLASSES])],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return make


@pytest.fixture
def make_samples(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows labelled with their class under `WEIGHTS`.

    Keyword arguments replace arrays; None omits an array.
    """

    def make(name: str = "labelled.npz", count: int = 200, **changes: Any) -> Path:
        x = np.random.default_rng(3).normal(size=(count, FEATURES)).astype(np.float32)
        arrays: dict[str, Any] = {"x": x, "label": (x @ WEIGHTS).argmax(axis=1), **changes}
        path = tmp_path / name
        np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
        return path

    return make


def openvino_files(model: Path, graph: Path) -> Path:
    """Convert an ONNX model to OpenVINO's two files: `graph`, and the weights beside it."""
    from openvino import Core, save_model

    graph.parent.mkdir(parents=True, exist_ok=True)
    save_model(Core().read_model(model), graph, compress_to_fp16=False)
    return graph


ENDLESS = 1e6
"""Value of a pixel for which `endless_model` computes for years."""


def endless_model(path: Path) -> Path:
    """Write a classifier of 8x8 images that loops 1e10 times for each unit of its brightest pixel above 100."""
    state = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["total", "one"], ["sum"])],
        "turn",
        [
            state("turn", TensorProto.INT64, []),
            state("go", TensorProto.BOOL, []),
            state("total", TensorProto.FLOAT, []),
        ],
        [state("on", TensorProto.BOOL, []), state("sum", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.asarray(1.0, np.float32), "one")],
    )
    constants = {"most": np.float32(100.0), "scale": np.float32(1e10), "zero": np.float32(0.0), "yes": np.bool_(True)}
    weights = np.random.default_rng(7).normal(size=(64, 10)).astype(np.float32)
    make = helper.make_node
    graph = helper.make_graph(
        [
            make("ReduceMax", ["input"], ["brightest"], keepdims=0),
            make("Sub", ["brightest", "most"], ["beyond"]),
            make("Relu", ["beyond"], ["positive"]),
            make("Mul", ["positive", "scale"], ["turns"]),
            make("Cast", ["turns"], ["trips"], to=TensorProto.INT64),
            make("Loop", ["trips", "yes", "zero"], ["looped"], body=body),
            make("Mul", ["looped", "zero"], ["nothing"]),
            make("Flatten", ["input"], ["flat"]),
            make("MatMul", ["flat", "weights"], ["scores"]),
            make("Add", ["scores", "nothing"], ["logits"]),
        ],
        "endless",
        [state("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [state("logits", TensorProto.FLOAT, ["batch", 10])],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in [*constants.items(), ("weights", weights)]
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def slow_model(path: Path, turns: int) -> Path:
    """Write a classifier of 8x8 images that loops `turns` times for each batch; one turn takes some microseconds."""
    make, state = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [make("Identity", ["go"], ["on"]), make("Add", ["total", "one"], ["sum"])],
        "turn",
        [
            state("turn", TensorProto.INT64, []),
            state("go", TensorProto.BOOL, []),
            state("total", TensorProto.FLOAT, []),
        ],
        [state("on", TensorProto.BOOL, []), state("sum", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(np.asarray(1.0, np.float32), "one")],
    )
    weights = np.random.default_rng(7).normal(size=(64, 10)).astype(np.float32)
    constants = {"turns": np.int64(turns), "yes": np.bool_(True), "zero": np.float32(0.0), "weights": weights}
    graph = helper.make_graph(
        [
            make("Loop", ["turns", "yes", "zero"], ["looped"], body=body),
            make("Mul", ["looped", "zero"], ["nothing"]),
            make("Flatten", ["input"], ["flat"]),
            make("MatMul", ["flat", "weights"], ["scores"]),
            make("Add", ["scores", "nothing"], ["logits"]),
        ],
        "slow",
        [state("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [state("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def ragged_model(path: Path) -> Path:
    """Write a model of 8x8 images whose output width is the value of the brightest pixel in the batch."""
    make, state = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            make("ReduceMax", ["input"], ["brightest"], keepdims=0),
            make("Cast", ["brightest"], ["whole"], to=TensorProto.INT64),
            make("Reshape", ["whole", "once"], ["width"]),
            make("Shape", ["input"], ["batch"], start=0, end=1),
            make("Concat", ["batch", "width"], ["shape"], axis=0),
            make("ConstantOfShape", ["shape"], ["logits"]),
        ],
        "ragged",
        [state("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [state("logits", TensorProto.FLOAT, ["batch", "width"])],
        [numpy_helper.from_array(np.asarray([1], np.int64), "once")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def picky_model(path: Path) -> Path:
    """Write a model of 8x8 images that fails inside the graph if the brightest pixel of an image is 4 or more."""
    make, state = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            make("ReduceMax", ["input"], ["brightest"], axes=[1, 2, 3], keepdims=0),
            make("Cast", ["brightest"], ["row"], to=TensorProto.INT64),
            make("Gather", ["table", "row"], ["logits"]),
        ],
        "picky",
        [state("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [state("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.eye(4, 10, dtype=np.float32), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path
