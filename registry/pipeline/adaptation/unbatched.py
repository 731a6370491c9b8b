"""Inputs and outputs without a batch: scalars become parameters, and models without a batch get one of exactly 1.

A scalar input, e.g. a sampling rate, cannot have a value for each input of a batch. It gets a batch dimension like all
others, of which the model takes the first value; workers put only queries of one value in a batch.
"""

from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from registry.pipeline.adaptation.graph import rename, shape_of

_FIRST: Final = "infaas__first"
_AXES_AS_INPUT: Final = 13
"""Opset since which `Unsqueeze` takes its axes as an input."""


def scalars_of(values: list[Any]) -> list[Any]:
    """Return the values without dimensions."""
    return [value for value in values if not shape_of(value)]


def widen_scalars(graph: Any, scalars: list[Any], like: Any | None) -> tuple[str, ...]:
    """Give scalar inputs a batch dimension, the first one of `like`; return their names."""
    for value in scalars:
        _take_first(graph, value)
        dim = value.type.tensor_type.shape.dim.add()
        if like is not None:
            dim.CopyFrom(like.type.tensor_type.shape.dim[0])
        else:
            dim.dim_value = 1
    return tuple(value.name for value in scalars)


def add_batch(model: Any, inputs: list[Any], outputs: list[Any]) -> None:
    """Give all inputs and outputs a first dimension of size 1, the batch of a model that computes one input."""
    graph = model.graph
    for value in inputs:
        _take_first(graph, value)
        _insert_one(value)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), _AXES_AS_INPUT)
    for value in outputs:
        inner = f"{value.name}__as_exported"
        rename(graph, value.name, inner)
        if opset < _AXES_AS_INPUT:
            graph.node.append(helper.make_node("Unsqueeze", [inner], [value.name], axes=[0]))
        else:
            _add_constant(graph, f"{_FIRST}_axes", [0])
            graph.node.append(helper.make_node("Unsqueeze", [inner, f"{_FIRST}_axes"], [value.name]))
        _insert_one(value)


def _take_first(graph: Any, value: Any) -> None:
    inner = f"{value.name}__as_exported"
    rename(graph, value.name, inner)
    _add_constant(graph, _FIRST, 0)
    graph.node.insert(0, helper.make_node("Gather", [value.name, _FIRST], [inner], axis=0))


def _add_constant(graph: Any, name: str, number: int | list[int]) -> None:
    if all(tensor.name != name for tensor in graph.initializer):
        graph.initializer.append(numpy_helper.from_array(np.array(number, np.int64), name))


def _insert_one(value: Any) -> None:
    shape = value.type.tensor_type.shape
    dims = [helper.make_tensor_value_info("", 1, [1]).type.tensor_type.shape.dim[0], *list(shape.dim)]
    copies = [type(dim)() for dim in dims]
    for copy, dim in zip(copies, dims, strict=True):
        copy.CopyFrom(dim)
    del shape.dim[:]
    shape.dim.extend(copies)
