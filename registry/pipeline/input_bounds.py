"""Bounds of an ONNX graph's ids and lengths, which its signature does not contain.

    ids        rows of the tables that an input indexes, e.g. a vocabulary: followed through operators that reshape
    lengths    rows of another table, e.g. of positions: a guess, accepted if the graph takes this length and no more

Runtimes do not check bounds: onnxruntime takes an id of -1 for the last row, and OpenVINO returns zeros for an id that
is too large. An input that is too long fails with an unclear error in C++. Lengths are tried because the graph does not
tell: exporters slice, count, clip or wrap positions in many ways.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from registry.pipeline.adaptation.graph import constants_of
from registry.pipeline.source_format import SourceFormat
from registry.recipes import RECIPES
from registry.signature import Signature
from runtimes.catalog import find_runtime
from runtimes.protocol import LoadOptions, Session
from schemas.hardware import Hardware
from schemas.signature import TensorSpec
from schemas.tensors import BYTES, DTYPES

_RESHAPE: Final = frozenset(
    {"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Expand", "Tile"}
)
"""Operators whose output holds only values of their first input."""
_SHORT: Final = 2
_MOST_TRIED: Final = 4
_LONGEST_TRIED: Final = 2048
"""Longest input to try; attention on a longer one could exhaust the memory."""


def id_bounds(graph: Any) -> dict[str, int]:
    """Return the rows of the smallest table that each input indexes, by the name of the input."""
    tables, of_table = constants_of(graph), dict[str, str]()
    origin: dict[str, str] = {value.name: value.name for value in graph.input}
    counts: dict[str, int] = {}
    for node in graph.node:  # in the order of computation
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
    """Return the signature with the longest input that the model takes, if it is found; runs the model, and blocks."""
    variable = [spec for spec in signature.inputs if _variable_axes(spec)]
    candidates = _table_sizes(graph, {spec.below for spec in signature.inputs})[:_MOST_TRIED]
    if not candidates or not variable or any(_variable_axes(spec) > 1 for spec in variable):
        return signature
    session = cpu_session(file, SourceFormat.ONNX)
    if session is None:
        return signature
    try:
        longest = _longest(session, signature.inputs, candidates)
    finally:
        session.close()
    if longest is None:
        return signature
    inputs = tuple(replace(spec, longest=longest) if spec in variable else spec for spec in signature.inputs)
    return replace(signature, inputs=inputs)


def _variable_axes(spec: TensorSpec) -> int:
    return sum(size < 0 for size in spec.shape[1:])


def _table_sizes(graph: Any, known: set[int | None]) -> list[int]:
    """Return the sizes of indexed or sliced constants, ascending, except those in `known`."""
    tables = constants_of(graph)
    cut = {node.input[0] for node in graph.node if node.op_type in ("Gather", "Slice") and node.input}
    sizes = {size for name in cut & tables.keys() for size in tables[name].dims}
    return sorted(size for size in sizes - known if _SHORT < size <= _LONGEST_TRIED)


def _longest(session: Session, specs: Sequence[TensorSpec], candidates: Sequence[int]) -> int | None:
    """Return the first candidate that the model takes as a length if it takes no more; None: there is none."""
    if not _takes(session, specs, _SHORT):
        return None
    longest = next((length for length in candidates if not _takes(session, specs, length + 1)), None)
    return longest if longest is not None and _takes(session, specs, longest) else None


def cpu_session(file: Path, source_format: str) -> Session | None:
    """Load a registered file on the CPU, to try inputs; None: it cannot be loaded."""
    runtime = find_runtime(RECIPES[source_format][0].runtime)
    try:
        return runtime.load(file, Hardware.CPU, LoadOptions(precision="fp32", threads=1, max_batch=1))
    except Exception:  # noqa: BLE001 - if it fails, the measurement reports a better error
        return None


def _takes(session: Session, specs: Sequence[TensorSpec], length: int) -> bool:
    """Return true if the model computes an input of this length."""
    try:
        session.infer({spec.name: made_up(spec, {}, length) for spec in specs})
    except Exception:  # noqa: BLE001 - a runtime may raise any error
        return False
    return True


def made_up(spec: TensorSpec, sizes: Mapping[str, int], length: int) -> np.ndarray[Any, Any]:
    """Return an input for a model: `sizes` by the names of variable axes, `length` for others."""
    names = spec.axes or [""] * len(spec.shape)
    sizes_found = (sizes.get(name, length) if size < 0 else size for size, name in zip(spec.shape, names, strict=True))
    shape = [1, *list(sizes_found)[1:]]
    dtype = DTYPES[spec.datatype]
    if dtype is BYTES:
        return np.full(shape, b"", BYTES)
    return np.zeros(shape, dtype) if spec.below == 1 else np.ones(shape, dtype)
