"""Adapts an exported ONNX file so that it can be served, and describes the changes in words.

Converted scikit-learn models end in ONNX's `ZipMap`, which returns a list of maps from class to score. Such a list
cannot be batched. The scores behind it are served instead, and its class names are kept.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import onnx
from onnx import TensorProto, helper

from registry.pipeline.adaptation.batch import (
    NONE,
    computes_alike,
    fixed_batch,
    free_axes,
    free_batch,
    has_common_batch,
    inputs_of,
    may_have_batch,
    parse_axes,
    put_batch_first,
)
from registry.pipeline.adaptation.graph import graphs_of, load_weights, tensors_of, widen_bf16
from registry.pipeline.adaptation.probing import probe_axes
from registry.pipeline.adaptation.unbatched import add_batch, scalars_of, widen_scalars
from registry.signature import ALONE
from runtimes.onnx import write_pack
from schemas.errors import InvalidRequest

_CODE: Final = re.compile(r"EPContext|Py(?:thon|Custom)?Op.*|Azure.*|OpenAI.*")
"""Operators of onnxruntime and its extensions that run code or call services."""


class Adaptation(msgspec.Struct, frozen=True):
    """An adapted file."""

    file: Path
    """The original file, or the adapted copy."""
    notes: tuple[str, ...] = ()
    """Changes, for the user who registers it."""
    classes: tuple[str, ...] = ()
    """Names of the classes that the file contains."""
    alone: bool = False
    """True if it computes exactly one input at a time."""
    parameters: tuple[str, ...] = ()
    """Inputs that were scalars: they have one value for a whole query."""


def adapt(file: Path, target: Path, batch_axes: Sequence[str] = ()) -> Adaptation:
    """Adapt an ONNX file; write it to `target` if anything changes; blocks.

    Raises:
        InvalidRequest: it cannot be served; the message says why.
    """
    model: Any = onnx.load(file, load_external_data=False)
    refuse_code(model, file)
    notes: list[str] = []
    left = _take_in_weights(model, file, notes)
    if widen_bf16(model):
        notes.append("BF16 weights, inputs and outputs were converted to FP32 without loss")
    classes = unzip_maps(model.graph)
    if classes:
        notes.append(f"the scores of {len(classes)} classes are returned as an array instead of a list of maps")
    scalars = scalars_of(inputs_of(model.graph))
    if _arrange_batch(model, file, batch_axes, notes):
        write_model(model, file, target, left)
        return Adaptation(target, tuple(notes), classes, True, tuple(value.name for value in scalars))
    others = [value for value in inputs_of(model.graph) if all(value is not one for one in scalars)]
    parameters = widen_scalars(model.graph, scalars, others[0] if others else None)
    if parameters:
        notes.append(f"{', '.join(parameters)} has one value for a whole query, by default that of the samples")
    if notes:
        write_model(model, file, target, left)
    alone = _free(model, target if notes else file, file, target, left, notes, parameters)
    return Adaptation(target if notes and target.exists() else file, tuple(notes), classes, alone, parameters)


def _arrange_batch(model: Any, file: Path, batch_axes: Sequence[str], notes: list[str]) -> bool:
    """Make the batch the first dimension; return true if the model has none, and gets one of exactly 1."""
    graph, axes = model.graph, parse_axes(batch_axes)
    without = NONE in batch_axes
    if not without and not has_common_batch(graph, axes):
        found = None if axes else probe_axes(file, inputs_of(graph), graph.output)
        without = found is None and not axes and not may_have_batch(graph)
        if found is not None:
            free_axes(graph, found)
            axes = found
            notes.append("its batch dimension was found by running it")
    if without:
        add_batch(model, inputs_of(graph), list(graph.output))
        notes.append("it has no batch dimension: inputs are computed one by one")
        return True
    moved = put_batch_first(graph, axes)
    if moved:
        notes.append(f"the batch was made the first dimension of {', '.join(moved)} (change it by --batch-axis)")
    return False


def refuse_code(model: Any, file: Path) -> None:
    """Raise `InvalidRequest` if a node contains compiled code, or calls Python or a service."""
    nodes = [node for part in (model.graph, *model.functions) for graph in graphs_of(part) for node in graph.node]
    found = sorted({node.op_type for node in nodes if _CODE.fullmatch(node.op_type)})
    if found:
        raise InvalidRequest(
            f"{file.name} has nodes {', '.join(found)}, which contain compiled code or call code outside of the model: "
            "export it with plain operators"
        )


def _take_in_weights(model: Any, file: Path, notes: list[str]) -> int:
    outside = any(tensor.external_data for tensor in tensors_of(model.graph))
    left = load_weights(model, file.parent)
    if outside:
        notes.append("weights in other files were merged into one artifact" + (", mapped into memory" if left else ""))
    return left


def _free(
    model: Any, present: Path, file: Path, target: Path, left: int, notes: list[str], parameters: Sequence[str]
) -> bool:
    """Make a fixed batch variable; return true if the model must stay one of a single input."""
    size = fixed_batch(model.graph)
    if size is None:
        return False
    freed = target.with_name(f"{target.name}.freed")
    if not left:
        free_batch(model, size)
        write_model(model, file, freed, left)
        if computes_alike(present, freed, size, parameters):
            freed.replace(target)
            notes.append(f"it was exported for batches of {size}; its batch is variable now, with the same outputs")
            return False
    if size > 1:
        raise InvalidRequest(
            f"{file.name} computes batches of exactly {size}, and its outputs change if the batch is made variable: "
            "export it with a dynamic batch dimension"
        )
    notes.append(ALONE)
    return True


def write_model(model: Any, file: Path, target: Path, left: int) -> None:
    """Write a model of the file `file`, of whose weights `left` bytes are in other files; then it becomes a pack."""
    if left:
        write_pack(model, file.parent, target)
    else:
        onnx.save(model, target)


def unzip_maps(graph: Any) -> tuple[str, ...]:
    """Replace maps by scores; return the names of the classes, or an empty tuple if there were no maps."""
    classes: tuple[str, ...] = ()
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        output = next((value for value in graph.output if value.name == node.output[0]), None)
        if output is None:
            continue
        names = [_value_of(attribute) for attribute in node.attribute if attribute.name.startswith("classlabels")]
        classes = tuple(str(name) for name in (names[0] if names else ()))
        scores = helper.make_tensor_value_info(output.name, TensorProto.FLOAT, ["batch", len(classes) or "classes"])
        output.CopyFrom(scores)
        identity = helper.make_node("Identity", [node.input[0]], [output.name])
        graph.node.remove(node)
        graph.node.append(identity)
    return classes


def _value_of(attribute: Any) -> list[str]:
    value = helper.get_attribute_value(attribute)
    return [item.decode() if isinstance(item, bytes) else str(item) for item in value]
