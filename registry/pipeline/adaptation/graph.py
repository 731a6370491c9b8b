"""Parts of an ONNX file: names, constants and weights in its graph and its nested graphs.

External weights that fit are loaded into the one file. Protobuf is limited to 2 GB; a larger model becomes a pack
(`runtimes.onnx`), also one file, whose weights are mapped into memory and never copied.
BF16 has kernels on few CPUs, and no numpy type. It becomes FP32, which represents each BF16 number exactly.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import Message
from numpy.typing import NDArray
from onnx import TensorProto, external_data_helper, numpy_helper

from runtimes.onnx import is_pack, read_pack
from schemas.errors import InvalidRequest

ONE_FILE_BYTES: Final = 1_900_000_000
"""Most bytes of weights in one ONNX file."""
_SMALL_BYTES: Final = 1 << 16
_NAMES: Final = {
    TensorProto.FLOAT: "fp32",
    TensorProto.BFLOAT16: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}


def load_graph(file: Path) -> Any:
    """Return the model of an ONNX file or a pack, without weights in other files; blocks."""
    if is_pack(file):
        return onnx.load_model_from_string(read_pack(file))
    return onnx.load(file, load_external_data=False)


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


def external_files(file: Path) -> list[Path]:
    """Return the other files that hold weights of an ONNX file.

    Raises:
        InvalidRequest: one is missing or outside the file's folder, or holds weights of a function or sparse weights.
    """
    model: Any = onnx.load(file, load_external_data=False)
    if sum(map(_is_outside, all_tensors_of(model))) > sum(map(_is_outside, tensors_of(model.graph))):
        raise InvalidRequest(
            f"{file.name} has sparse weights, or weights of functions, in other files: save it as one file"
        )  # otherwise it would read any file of that name beside its artifact
    entries = [entry for tensor in tensors_of(model.graph) for entry in tensor.external_data]
    names = {entry.value for entry in entries if entry.key == "location"}
    found = sorted(file.parent / name for name in names)
    for path in found:
        if not path.resolve().is_relative_to(file.parent.resolve()) or not path.is_file():
            raise InvalidRequest(
                f"{file.name} has weights in {path.name}, which is not in the same folder: keep them together"
            )
    return found


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == TensorProto.EXTERNAL


def load_weights(model: Any, folder: Path) -> int:
    """Load small external weights, and the others if all fit into one file; return the bytes left outside.

    Weights that stay outside belong to the outermost graph, which is the part that a pack holds.
    """
    inner, tensors = len(model.graph.initializer), enumerate(tensors_of(model.graph))
    outside = [(number, tensor) for number, tensor in tensors if external_data_helper.uses_external_data(tensor)]
    sizes = [_external_bytes(tensor, folder) for _, tensor in outside]
    fits = sum(sizes) <= ONE_FILE_BYTES
    left = 0
    for (number, tensor), size in zip(outside, sizes, strict=True):
        if fits or size <= _SMALL_BYTES or number >= inner:
            external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
        else:
            left += size
    return left


def _external_bytes(tensor: Any, folder: Path) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return int(entries.get("length") or (folder / entries["location"]).stat().st_size)


def precision_of(file: Path) -> str:
    """Return the number format of most weights, as in `Variant.precision`; blocks."""
    model = load_graph(file)
    counts: Counter[str] = Counter()
    for tensor in tensors_of(model.graph):
        if tensor.data_type in _NAMES:
            size = 1
            for dim in tensor.dims:
                size *= dim
            counts[_NAMES[tensor.data_type]] += size
    return counts.most_common(1)[0][0] if counts else "fp32"


def widen_bf16(model: Any) -> bool:
    """Convert all BF16 to FP32, including inputs and outputs; return true if there was any."""
    found = False
    for tensor in tensors_of(model.graph):
        if tensor.data_type == TensorProto.BFLOAT16:
            replace_tensor(tensor, numpy_helper.to_array(tensor).astype("float32"))
            found = True
    for graph in graphs_of(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
                value.type.tensor_type.elem_type = TensorProto.FLOAT
                found = True
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == TensorProto.BFLOAT16:
                    attribute.i = TensorProto.FLOAT
                    found = True
    return found
