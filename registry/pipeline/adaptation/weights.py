"""Weights as people have them: in other files, in BF16; and which precision they are of.

What fits into one file becomes one. Protobuf ends at 2 GB; a larger model becomes a pack (`runtimes.onnx_pack`), one
file as well, whose weights are mapped into memory and never copied.
BF16 has kernels on hardly any CPU, and no type in numpy: it becomes FP32, which holds each of its numbers exactly.
"""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from registry.pipeline.adaptation.graph import all_tensors_of, graphs_of, replace_tensor, tensors_of
from schemas.errors import InvalidRequest

ONE_FILE_BYTES: Final = 1_900_000_000
"""Most bytes of weights that are kept in one ONNX file."""
_SMALL_BYTES: Final = 1 << 16
_NAMES: Final = {
    TensorProto.FLOAT: "fp32",
    TensorProto.BFLOAT16: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.DOUBLE: "fp64",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}


def external_files(file: Path) -> list[Path]:
    """The other files that hold weights of an ONNX file.

    Raises:
        InvalidRequest: one is not there, or lies outside the file's folder, or is named where nothing packs it.
    """
    model: Any = onnx.load(file, load_external_data=False)
    if sum(map(_is_outside, all_tensors_of(model))) > sum(map(_is_outside, tensors_of(model.graph))):
        raise InvalidRequest(
            f"{file.name} keeps weights of functions, or sparse ones, in other files: save it as one file"
        )  # as it stands it would read whatever has that name where its artifact lies
    entries = [entry for tensor in tensors_of(model.graph) for entry in tensor.external_data]
    names = {entry.value for entry in entries if entry.key == "location"}
    found = sorted(file.parent / name for name in names)
    for path in found:
        if not path.resolve().is_relative_to(file.parent.resolve()) or not path.is_file():
            raise InvalidRequest(
                f"{file.name} keeps weights in {path.name}, which is not beside it: keep them together"
            )
    return found


def _is_outside(tensor: Any) -> bool:
    return bool(tensor.external_data) or tensor.data_location == TensorProto.EXTERNAL


def load_weights(model: Any, folder: Path) -> int:
    """Load small weights that lie in other files, and the rest if all fit into one; returns the bytes left outside.

    Those are among the outermost graph's, which are what is packed.
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
    """The number format of most weights, as in `Variant.precision`; blocks."""
    model: Any = onnx.load(file, load_external_data=False)
    counts: Counter[str] = Counter()
    for tensor in tensors_of(model.graph):
        if tensor.data_type in _NAMES:
            size = 1
            for dim in tensor.dims:
                size *= dim
            counts[_NAMES[tensor.data_type]] += size
    return counts.most_common(1)[0][0] if counts else "fp32"


def widen_bf16(model: Any) -> bool:
    """Make everything that is BF16 FP32, inputs and outputs included; returns whether anything was."""
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
