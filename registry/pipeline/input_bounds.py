"""What an ONNX graph takes of integers and of lengths, beyond what its signature says.

    ids        rows of the tables that an input chooses from, e.g. a vocabulary: followed through what only reshapes
    lengths    rows of another table, e.g. of positions: a guess, believed once the graph takes as many and no more

Runtimes do not check: onnxruntime takes an id of -1 for the last row, OpenVINO makes zeros of one that is too large;
and what is too long fails somewhere within, in the words of C++. Lengths are tried because no look at a graph tells:
positions are sliced, counted, clipped or wrapped around in as many ways as there are exporters.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from registry.pipeline.adaptation.graph import constants_of
from registry.signature import Signature
from runtimes.onnx import OnnxRuntime
from runtimes.protocol import LoadOptions, Session
from schemas.hardware import Hardware
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import BYTES, DTYPES

_RESHAPE: Final = frozenset(
    {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Expand", "Tile"}
)
"""Operators whose output holds values of their first input and no others."""
_SHORT: Final = 2
_MOST_TRIED: Final = 4
_LONGEST_TRIED: Final = 2048
"""Values of an input: attention on more takes the memory of a machine."""


def id_bounds(graph: Any) -> dict[str, int]:
    """Rows of the smallest table that each input chooses from, by the name of the input."""
    tables, of_table = constants_of(graph), dict[str, str]()
    origin: dict[str, str] = {value.name: value.name for value in graph.input}
    counts: dict[str, int] = {}
    for node in graph.node:  # in the order in which they are computed
        if not node.input:
            continue
        first = str(node.input[0])
        if node.op_type in _RESHAPE and first in origin:
            origin[node.output[0]] = origin[first]
        elif node.op_type in ("DequantizeLinear", "Cast") and first in tables:
            of_table[node.output[0]] = first
        elif node.op_type == "Gather" and node.input[1] in origin:
            table = tables.get(of_table.get(first, first))
            if table is not None and table.dims:
                axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
                name, rows = origin[node.input[1]], table.dims[axis]
                counts[name] = min(rows, counts.get(name, rows))
    return counts


def with_longest(file: Path, signature: Signature, graph: Any) -> Signature:
    """The signature with the longest input that the model takes, where that is found; computes on it, and blocks."""
    variable = [spec for spec in signature.inputs if _variable_axes(spec)]
    candidates = _table_sizes(graph, {spec.below for spec in signature.inputs})[:_MOST_TRIED]
    if not candidates or not variable or any(_variable_axes(spec) > 1 for spec in variable):
        return signature
    session = _session(file)
    if session is None or not _takes(session, signature.inputs, _SHORT):
        return signature
    longest = next((length for length in candidates if not _takes(session, signature.inputs, length + 1)), None)
    if longest is None or not _takes(session, signature.inputs, longest):
        return signature
    inputs = tuple(replace(spec, longest=longest) if spec in variable else spec for spec in signature.inputs)
    return replace(signature, inputs=inputs)


def _variable_axes(spec: TensorSpec) -> int:
    return sum(size < 0 for size in spec.shape[1:])


def _table_sizes(graph: Any, known: set[int | None]) -> list[int]:
    """Sizes of what is chosen from and cut, the least first, but for the tables that inputs choose from themselves."""
    tables = constants_of(graph)
    cut = {node.input[0] for node in graph.node if node.op_type in ("Gather", "Slice") and node.input}
    sizes = {size for name in cut & tables.keys() for size in tables[name].dims}
    return sorted(size for size in sizes - known if _SHORT < size <= _LONGEST_TRIED)


def _session(file: Path) -> Session | None:
    runtime = OnnxRuntime("onnx", {Hardware.CPU: "CPUExecutionProvider"}, concurrent=True)
    try:
        return runtime.load(file, Hardware.CPU, LoadOptions(precision="fp32", threads=1, max_batch=1))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, measuring says it better
        return None


def _takes(session: Session, specs: Sequence[TensorSpec], length: int) -> bool:
    """Whether the model computes on one input of such a length."""
    try:
        session.infer({spec.name: _made_up(spec, length) for spec in specs})
    except Exception:  # noqa: BLE001 - a runtime raises what it likes
        return False
    return True


def _made_up(spec: TensorSpec, length: int) -> np.ndarray[Any, Any]:
    shape = [1, *(length if size < 0 else size for size in spec.shape[1:])]
    dtype = DTYPES[spec.datatype]
    if dtype is BYTES:
        return np.full(shape, b"", BYTES)
    return np.zeros(shape, dtype) if spec.below == 1 else np.ones(shape, dtype)
