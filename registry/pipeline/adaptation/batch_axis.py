"""Makes the batch the first dimension: other layouts ([steps, batch, ...]) get transposes around the model.

The axis of the batch is declared, or recognised by the name that the exporter gave the dimension.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from onnx import helper

from registry.pipeline.adaptation.graph import rename, shape_of
from schemas.errors import InvalidRequest

_BATCH: Final = ("batch", "batch_size", "batchsize", "batch_dim", "bs", "n", "b")
_EVERY: Final = ""


def parse_axes(declared: Sequence[str]) -> dict[str, int]:
    """Return axes by tensor from `NAME=AXIS`; `AXIS` holds for each tensor with this axis. Raises `InvalidRequest`."""
    axes: dict[str, int] = {}
    for item in declared:
        name, _, axis = item.rpartition("=")
        if not axis.isdigit():
            raise InvalidRequest(f"--batch-axis {item}: write AXIS or NAME=AXIS, e.g. 1 or tokens=1")
        axes[name] = int(axis)
    return axes


def put_batch_first(graph: Any, declared: Mapping[str, int]) -> list[str]:
    """Transpose inputs and outputs whose batch is not first; return their names."""
    weights = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in weights]
    unknown = set(declared) - {_EVERY} - {value.name for value in (*values, *graph.output)}
    if unknown:
        raise InvalidRequest(f"--batch-axis: the model has no input or output {unknown.pop()!r}")
    moved: list[str] = []
    for value in (*values, *graph.output):
        axis = _axis(value, declared)
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
