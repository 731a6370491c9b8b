"""Makes the batch the first dimension, and variable.

Other layouts ([steps, batch, ...]) get transposes around the model. The axis of the batch is declared, or recognised by
the name that the exporter gave the dimension.

In models that were exported for one batch size the first dimension is made variable, and so is the batch in the
constant shapes of reshapes. The result is tested: several batches at once must give the outputs that the original
model gives for each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from registry.pipeline.adaptation.graph import constants_of, rename, replace_tensor, shape_of
from schemas.errors import InvalidRequest

_BATCH: Final = ("batch", "batch_size", "batchsize", "batch_dim", "bs", "n", "b")
_EVERY: Final = ""
NONE: Final = "none"
"""Declared axis of a model without a batch."""
_TRIED: Final = 3
_LENGTH: Final = 16
_SEED: Final = 0
_TOLERANCE: Final = 1e-3
_NAME: Final = "batch"


def parse_axes(declared: Sequence[str]) -> dict[str, int]:
    """Return axes by tensor from `NAME=AXIS`; `AXIS` holds for each tensor with this axis. Raises `InvalidRequest`."""
    axes: dict[str, int] = {}
    if NONE in declared and len(declared) > 1:
        raise InvalidRequest(f"--batch-axis {NONE} says that no input has a batch, so no axis can be given")
    for item in declared if NONE not in declared else ():
        name, _, axis = item.rpartition("=")
        if not axis.isdigit():
            raise InvalidRequest(f"--batch-axis {item}: write AXIS, NAME=AXIS or {NONE}, e.g. 1 or tokens=1")
        axes[name] = int(axis)
    return axes


def put_batch_first(graph: Any, declared: Mapping[str, int]) -> list[str]:
    """Transpose inputs and outputs whose batch is not first; return their names."""
    values = inputs_of(graph)
    unknown = set(declared) - {_EVERY} - {value.name for value in (*values, *graph.output)}
    if unknown:
        raise InvalidRequest(f"--batch-axis: the model has no input or output {unknown.pop()!r}")
    moved: list[str] = []
    for value in (*values, *graph.output):
        axis = _axis(value, declared) if shape_of(value) else 0
        if axis:
            _wrap(graph, value, axis, is_input=any(value is one for one in values))
            moved.append(value.name)
    return moved


def _axis(value: Any, declared: Mapping[str, int]) -> int:
    shape = shape_of(value)
    axis = declared.get(value.name, declared.get(_EVERY))
    if axis is not None:
        if axis >= len(shape) and value.name in declared:
            raise InvalidRequest(f"--batch-axis {value.name}={axis}: it has {len(shape)} dimensions")
        return axis if axis < len(shape) else 0
    named = [index for index, size in enumerate(shape) if isinstance(size, str) and size.lower() in _BATCH]
    return named[0] if len(named) == 1 else 0


def _wrap(graph: Any, value: Any, axis: int, *, is_input: bool) -> None:
    name, inner = value.name, f"{value.name}__as_exported"
    rename(graph, name, inner)
    dims = list(value.type.tensor_type.shape.dim)
    order = [axis, *(index for index in range(len(dims)) if index != axis)]
    back = sorted(range(len(order)), key=order.__getitem__)
    first = [helper.make_tensor_value_info("", 1, [1]).type.tensor_type.shape.dim[0] for _ in dims]
    for new, index in zip(first, order, strict=True):
        new.CopyFrom(dims[index])
    del value.type.tensor_type.shape.dim[:]
    value.type.tensor_type.shape.dim.extend(first)
    if is_input:
        graph.node.insert(0, helper.make_node("Transpose", [name], [inner], perm=back))
    else:
        graph.node.append(helper.make_node("Transpose", [inner], [name], perm=order))


def has_common_batch(graph: Any, declared: Mapping[str, int]) -> bool:
    """Return true if the batch of all inputs and outputs is variable, or of one fixed size; scalar inputs have none.

    Also if that cannot be known, because a value is no tensor or has no declared shape: the inspection refuses it.
    """
    sizes: set[int | str] = set()
    if not all(value.type.tensor_type.HasField("shape") for value in _values(graph)):
        return True
    for value in _values(graph):
        shape = shape_of(value)
        if shape:
            size = shape[_axis(value, declared)]
            sizes.add(size if isinstance(size, int) else _NAME)
        elif any(value is one for one in graph.output):
            return False
    return len(sizes) <= 1


def free_axes(graph: Any, axes: Mapping[str, int]) -> None:
    """Make the batch axes variable, which exporters may have declared with the size of their example."""
    for value in _values(graph):
        if value.name in axes:
            dim = value.type.tensor_type.shape.dim[axes[value.name]]
            dim.Clear()
            dim.dim_param = _NAME


def may_have_batch(graph: Any) -> bool:
    """Return true if a dimension is named like a batch, or a first dimension is variable and has no name."""
    shapes = [shape_of(value) for value in _values(graph)]
    named = any(isinstance(size, str) and size.lower() in _BATCH for shape in shapes for size in shape)
    return named or any(shape[:1] == [""] for shape in shapes)


def fixed_batch(graph: Any) -> int | None:
    """Return the batch size of all inputs and outputs; None if it is variable, or they differ."""
    sizes = {shape_of(value)[0] if shape_of(value) else None for value in _values(graph)}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) and size > 0 else None


def free_batch(model: Any, size: int) -> None:
    """Make the first dimension of inputs and outputs variable, and shapes that begin with `size`."""
    for value in _values(model.graph):
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        dim.dim_param = _NAME
    del model.graph.value_info[:]
    constants = constants_of(model.graph)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[1] in constants:
            _free_shape(constants[node.input[1]], size)


def _free_shape(tensor: Any, size: int) -> None:
    shape = numpy_helper.to_array(tensor).copy()
    if shape.ndim == 1 and len(shape) and shape[0] == size:
        shape[0] = 0 if -1 in shape else -1  # 0 copies the dimension of the input
        replace_tensor(tensor, shape)


def inputs_of(graph: Any) -> list[Any]:
    """Return the inputs that are no weights."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def _values(graph: Any) -> list[Any]:
    return [*inputs_of(graph), *graph.output]


# -- the test ----------------------------------------------------------------------------------------------------------
def computes_alike(original: Path, freed: Path, size: int, parameters: Sequence[str] = ()) -> bool:
    """Return true if several batches at once give the outputs of the original for each; blocks, and loads both.

    `parameters` are the inputs that have one value for all rows.
    """
    import onnxruntime

    model: Any = onnx.load(original, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    random = np.random.default_rng(_SEED)
    inputs = {value.name: _made_up(value, random) for value in model.graph.input if value.name not in weights}
    inputs |= {name: np.repeat(inputs[name][:1], size * _TRIED) for name in parameters}
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        on_cpu = ["CPUExecutionProvider"]
        before, after = (onnxruntime.InferenceSession(str(one), quiet, providers=on_cpu) for one in (original, freed))
        parts = [
            before.run(None, {name: rows[start : start + size] for name, rows in inputs.items()})
            for start in range(0, size * _TRIED, size)
        ]
        together = after.run(None, inputs)
    except Exception:  # noqa: BLE001 - any error means that it does not compute alike
        return False
    return _alike([np.concatenate(part) for part in zip(*parts, strict=True)], together)


def _made_up(value: Any, random: np.random.Generator) -> NDArray[Any]:
    size, *rest = (one if isinstance(one, int) else _LENGTH for one in shape_of(value))
    shape = (size * _TRIED, *rest)
    kind = value.type.tensor_type.elem_type
    if kind == TensorProto.STRING:
        return random.choice(np.array(["a", "b", "c"], object), shape)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return (random.normal(size=shape) if dtype.kind == "f" else random.integers(0, 2, shape)).astype(dtype)


def _alike(alone: Sequence[Any], together: Sequence[Any]) -> bool:
    for one, other in zip(alone, together, strict=True):
        if one.shape != other.shape:
            return False
        if one.dtype.kind == "f":
            if not np.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE * max(float(np.ptp(one)), 1e-6)):
                return False
        elif not np.array_equal(one, other):
            return False
    return True
