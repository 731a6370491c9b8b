"""Inputs and outputs of a model, and whether they fulfil a task.

Rules:
* The first dimension of every input and output is the batch, and must be variable.
* A model takes what the task promises its clients: each of its inputs is one of the task's, with the same datatype and
  at least as wide a shape. It may ignore inputs of the task.
* It answers what the task promises: exactly the task's outputs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from registry.source import SourceFormat
from runtimes.pytorch import import_torch, input_names
from schemas.errors import InvalidRequest
from schemas.records import Task, TensorSpec
from schemas.tensors import datatype_of

_VARIABLE: Final = -1


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    named: bool = True
    """Whether the model itself names its outputs; an exported program that returns a tensor does not."""

    def output(self, name: str | None) -> TensorSpec:
        """The output that holds the scores: the named or the only one; raises `InvalidRequest`."""
        names = ", ".join(output.name for output in self.outputs)
        if name is None and len(self.outputs) > 1:
            raise InvalidRequest(f"the model has several outputs ({names}): name the one with the scores")
        for output in self.outputs:
            if name in (None, output.name):
                return output
        raise InvalidRequest(f"the model has no output {name!r}; it has {names}")

    def named_after(self, task: Task | None) -> "Signature":
        """With the task's output names, in order, where the model itself has none."""
        if self.named or task is None or len(task.outputs) != len(self.outputs):
            return self
        outputs = tuple(
            replace(ours, name=promised.name) for promised, ours in zip(task.outputs, self.outputs, strict=True)
        )
        return replace(self, outputs=outputs)

    def narrowed_to(self, task: Task) -> tuple[TensorSpec, ...]:
        """The outputs in the shapes that the task promises where the model's own are wider; it must fulfil the task."""
        promised = {spec.name: spec.shape for spec in task.outputs}
        return tuple(
            replace(ours, shape=tuple(max(sizes) for sizes in zip(ours.shape, promised[ours.name], strict=True)))
            for ours in self.outputs
        )


def read_signature(file: Path, source_format: str) -> Signature:
    """Read a model file; blocks, and belongs in a process of its own.

    Raises:
        InvalidRequest: it is broken, or has inputs or outputs that cannot be served.
    """
    read = _read_onnx(file) if source_format == SourceFormat.ONNX else _read_exported(file)
    for kind, specs in (("input", read.inputs), ("output", read.outputs)):
        if not specs:
            raise InvalidRequest(f"the model has no {kind}")
        for spec in specs:
            _check_batch(kind, spec)
    return read


def check_task(task: Task, model: Signature) -> None:
    """Raise `InvalidRequest` naming the first difference, unless the model fulfils the task."""
    promised = {spec.name: spec for spec in task.inputs}
    for spec in model.inputs:
        if spec.name not in promised:
            raise InvalidRequest(f"task {task.name} has no input {spec.name!r}; it has {', '.join(promised)}")
        _check_spec(task, "input", promised[spec.name], spec)
    given = {spec.name: spec for spec in model.outputs}
    if set(given) != {spec.name for spec in task.outputs}:
        wanted = ", ".join(spec.name for spec in task.outputs)
        raise InvalidRequest(f"task {task.name} promises the outputs {wanted}; the model has {', '.join(given)}")
    for spec in task.outputs:
        _check_spec(task, "output", spec, given[spec.name])


def _check_spec(task: Task, kind: str, promised: TensorSpec, model: TensorSpec) -> None:
    where = f"task {task.name}: {kind} {promised.name!r}"
    if promised.datatype != model.datatype:
        raise InvalidRequest(f"{where} is {promised.datatype}, the model's is {model.datatype}")
    narrower = kind == "input" and any(
        ours == _VARIABLE != theirs for ours, theirs in zip(promised.shape, model.shape, strict=False)
    )
    if narrower or not fits(model.shape, promised.shape):
        raise InvalidRequest(f"{where} has the shape {_shown(promised.shape)}, the model's {_shown(model.shape)}")


def fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether two shapes may be the same, -1 standing for any size."""
    return len(shape) == len(wanted) and all(
        _VARIABLE in (ours, theirs) or ours == theirs for ours, theirs in zip(shape, wanted, strict=True)
    )


def _check_batch(kind: str, spec: TensorSpec) -> None:
    if not spec.shape:
        raise InvalidRequest(f"{kind} {spec.name!r} is a scalar; its first dimension must be the batch")
    if spec.shape[0] != _VARIABLE:
        raise InvalidRequest(
            f"{kind} {spec.name!r} has the shape {_shown(spec.shape)}: the first dimension is the batch and must be "
            "variable; export the model with a dynamic batch dimension"
        )


def _shown(shape: Sequence[int]) -> str:
    return str(list(shape))


# -- ONNX --------------------------------------------------------------------------------------------------------------
def _read_onnx(file: Path) -> Signature:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import external_data_helper

    try:
        model = onnx.load(file, load_external_data=False)
        if any(external_data_helper.uses_external_data(tensor) for tensor in model.graph.initializer):
            raise InvalidRequest(f"{file.name} keeps weights in other files: save it as one file")
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model)
    except DecodeError as error:
        raise InvalidRequest(f"{file.name} is no ONNX model, or damaged: {error}") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidRequest(f"{file.name} is not a valid ONNX model: {_first_line(error)}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        inputs=tuple(_onnx_spec("input", value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(_onnx_spec("output", value) for value in model.graph.output),
    )


def _onnx_spec(kind: str, value: Any) -> TensorSpec:
    import onnx

    if value.type.WhichOneof("value") != "tensor_type":
        raise InvalidRequest(f"{kind} {value.name!r} is no tensor (a sequence or map): export the model without it")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise InvalidRequest(f"{kind} {value.name!r} has no declared shape")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else _VARIABLE for dim in tensor.shape.dim)
    return TensorSpec(name=value.name, datatype=_datatype(kind, value.name, dtype), shape=shape)


def _datatype(kind: str, name: str, dtype: np.dtype[Any]) -> str:
    try:
        return datatype_of(np.empty(0, dtype))
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error


# -- torch -------------------------------------------------------------------------------------------------------------
def _read_exported(file: Path) -> Signature:
    torch = import_torch()

    try:
        with file.open("rb") as content:
            program: Any = torch.export.load(content)
    except Exception as error:  # torch raises anything at all for a file that is damaged
        raise InvalidRequest(f"{file.name} cannot be loaded by torch {torch.__version__}: {error}") from error
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    positional, named = input_names(program)
    taken = program.graph_signature.user_inputs
    if len(taken) != len(positional) + len(named) or not all(name in values for name in taken):
        raise InvalidRequest("every input of the exported program must be one tensor")
    returned = program.call_spec.out_spec
    given = list(program.graph_signature.user_outputs)
    keys = list(returned.context) if returned.type is dict else []
    names = keys or (["output"] if len(given) == 1 else [f"output{index}" for index in range(len(given))])
    return Signature(
        inputs=tuple(
            _torch_spec("input", name, values[place]) for name, place in zip(positional + named, taken, strict=True)
        ),
        outputs=tuple(_torch_spec("output", name, values[place]) for name, place in zip(names, given, strict=True)),
        named=bool(keys),
    )


def _torch_spec(kind: str, name: str, value: Any) -> TensorSpec:
    torch = import_torch()

    if not isinstance(value, torch.Tensor):
        raise InvalidRequest(f"{kind} {name!r} is no tensor")
    try:
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error
    shape = tuple(size if isinstance(size, int) else _VARIABLE for size in value.shape)
    return TensorSpec(name=name, datatype=_datatype(kind, name, dtype), shape=shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
