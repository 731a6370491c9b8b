"""Names and constants in an ONNX graph, including its nested graphs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper


def graphs_of(graph: Any) -> Iterator[Any]:
    """Yield the graph and the graphs in its nodes: bodies of loops, and branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs_of(inner)


def operators_of(file: Path) -> frozenset[str]:
    """Return the operators of a file; blocks."""
    model: Any = onnx.load(file, load_external_data=False)
    return frozenset(node.op_type for graph in graphs_of(model.graph) for node in graph.node)


def rename(graph: Any, old: str, new: str) -> None:
    """Rename a value wherever nodes read or write it; inputs and outputs of the graph keep their names."""
    for one in graphs_of(graph):
        for node in one.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield all constant tensors: weights, and tensors in attributes."""
    for one in graphs_of(graph):
        yield from one.initializer
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def all_tensors_of(message: Any) -> Iterator[Any]:
    """Yield all tensors in any part of a model, including those in functions and of sparse weights."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:  # skips numbers, of which trees have millions
            for one in [value] if isinstance(value, Message) else value:
                yield from all_tensors_of(one)


def constants_of(graph: Any) -> dict[str, Any]:
    """Return the named tensors of the outermost graph."""
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def replace_tensor(tensor: Any, value: NDArray[Any]) -> None:
    """Replace the content of a tensor; it keeps its name."""
    name = tensor.name
    tensor.Clear()
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def shape_of(value: Any) -> list[int | str]:
    """Return the dimensions of an input or output: sizes, or names if they vary ("" for none)."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else str(dim.dim_param) for dim in dims]
