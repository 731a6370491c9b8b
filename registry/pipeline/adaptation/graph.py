"""Names and constants in an ONNX graph, with all graphs within it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper


def graphs_of(graph: Any) -> Iterator[Any]:
    """The graph, and those in its nodes: bodies of loops, branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs_of(inner)


def operators_of(file: Path) -> frozenset[str]:
    """Operators of a file; blocks."""
    model: Any = onnx.load(file, load_external_data=False)
    return frozenset(node.op_type for graph in graphs_of(model.graph) for node in graph.node)


def rename(graph: Any, old: str, new: str) -> None:
    """Give a value another name wherever nodes take or make it; inputs and outputs of the graph keep theirs."""
    for one in graphs_of(graph):
        for node in one.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == old:
                        names[index] = new


def tensors_of(graph: Any) -> Iterator[Any]:
    """All constant tensors: weights, and those in attributes."""
    for one in graphs_of(graph):
        yield from one.initializer
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def all_tensors_of(message: Any) -> Iterator[Any]:
    """All tensors anywhere in a part of a model: those in functions and of sparse weights, too."""
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:  # numbers, of which trees have millions, hold none
            for one in [value] if isinstance(value, Message) else value:
                yield from all_tensors_of(one)


def constants_of(graph: Any) -> dict[str, Any]:
    """The tensors of the outermost graph that have a name."""
    made = {
        node.output[0]: attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    return made | {tensor.name: tensor for tensor in graph.initializer}


def replace_tensor(tensor: Any, value: NDArray[Any]) -> None:
    """Give a tensor another content, under its name."""
    name = tensor.name
    tensor.Clear()
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), name))


def shape_of(value: Any) -> list[int | str]:
    """Dimensions of an input or output: sizes, or names where they vary ("" where they have none)."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.HasField("dim_value") else str(dim.dim_param) for dim in dims]
