"""Inspects a model file: reads its signature, compares it with its task, and makes the file safe to load.

Of a `.pt2` file a copy is written that is safe to load (`runtimes.torch.exported_archive`); all later steps use the
copy. With processing around a model, the signature that clients see differs from the tensors that the model gets.
"""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
from msgspec.structs import replace

from registry.pipeline.source_format import SourceFormat, read_onnx
from registry.signature import ALONE, VARIABLE, Signature, check_task, datatype_from
from runtimes.gguf_header import read_gguf_header
from runtimes.onnx import is_pack, read_pack
from runtimes.openvino import read_artifact
from runtimes.padding import Arrays, stack_padded
from runtimes.processing.outputs import EMBEDDING, processed_outputs, with_token_axis
from runtimes.processing.session import load_before
from runtimes.processing.steps import IDS, read_class_names
from runtimes.torch.exported_archive import make_safe
from runtimes.torch.program import import_torch, input_names, load_program
from schemas import generation
from schemas.errors import InvalidRequest, ModelFailed
from schemas.rows.catalog import PoolTokens, Processing, Task, TensorSpec, TopClasses

if TYPE_CHECKING:
    from registry.pipeline.adaptation.adapt import Adaptation


class Inspection(msgspec.Struct, frozen=True):
    """Signature of a model, and the file that all later steps load."""

    file: Path
    """The registered file, or its safe or adapted copy."""
    signature: Signature
    outputs: tuple[TensorSpec, ...]
    """Its outputs in the shapes that the task promises, which may be narrower."""
    measured: TensorSpec
    """Output that is measured."""
    tensors: tuple[TensorSpec, ...] = ()
    """Inputs of the model itself, without processing."""
    returned: tuple[TensorSpec, ...] = ()
    """Outputs of the model itself."""
    scores: str = ""
    """Output of the model itself that is measured, before the processing steps."""
    notes: tuple[str, ...] = ()
    """Changes to the file, in words."""
    classes: tuple[str, ...] = ()
    """Names of the classes that the file contains."""
    alone: bool = False
    """True if it computes exactly one input at a time."""


class InspectModel(msgspec.Struct, frozen=True, tag=True):
    """Read a model's signature, compare it with its task, and make the file safe to load."""

    file: Path
    source_format: SourceFormat
    task: Task | None
    """Task that the model must fulfil; None if the task is created from the model."""
    output: str | None
    """Name of the output that is measured, if the user gave one."""
    safe_copy: Path
    """Path of the copy that is written if the file itself is not safe."""
    processing: Processing | None = None
    """Processing around the model."""
    batch_axes: tuple[str, ...] = ()
    """Axes of the batch, as the user declared them, if it is not the first dimension."""

    def run(self) -> Inspection:
        """Inspect the model; raises `InvalidRequest` if it cannot be served, or does not fulfil the task."""
        from registry.pipeline.sequence_axes import with_axes

        if self.source_format.is_generative and self.processing is not None:
            raise InvalidRequest("a language model has its own tokenizer: register it without processing steps")
        file, adaptation = self.file, None
        if self.source_format is SourceFormat.ONNX:
            adaptation = read_onnx(self._adapt, file)
            file = adaptation.file
        elif self.batch_axes:
            raise InvalidRequest("--batch-axis is for ONNX: export the model with the batch first")
        if self.source_format is SourceFormat.EXPORTED_PROGRAM:
            file = self.safe_copy
            make_safe(self.file, file)
        signature = read_signature(file, self.source_format)
        alone = any(spec.shape[0] == 1 for spec in signature.inputs)
        if alone:
            signature = signature.of_one()
        if self.source_format is SourceFormat.EXPORTED_PROGRAM:
            signature = signature.named_after(self.task)
            make_safe(self.file, file, [output.name for output in signature.outputs])
        parameters = adaptation.parameters if adaptation is not None else ()
        own = with_axes(signature.with_parameters(parameters), file, self.source_format)
        pools = self._pools_tokens
        named = None if pools and self.output == EMBEDDING else self.output  # the task's measured output is pooled
        if self.source_format.is_generative:
            named = named or generation.TEXT_OUTPUT
        scores = own.output(named, per_token=pools)
        signature = own if self.processing is None else processed_signature(own, self.processing, scores)
        outputs = signature.outputs
        if self.task is not None:
            check_task(self.task, signature)
            outputs = signature.narrowed_to(self.task)
        notes, classes = (adaptation.notes, adaptation.classes) if adaptation is not None else ((), ())
        if alone and adaptation is None:
            notes = (ALONE,)
        measured = signature.output(EMBEDDING if pools else scores.name)
        return Inspection(
            file, signature, outputs, measured, own.inputs, own.outputs, scores.name, notes, classes, alone
        )

    @property
    def _pools_tokens(self) -> bool:
        steps = self.processing.after if self.processing is not None else ()
        return any(isinstance(step, PoolTokens) for step in steps)

    def _adapt(self, file: Path) -> "Adaptation":
        from registry.pipeline.adaptation.adapt import adapt

        return adapt(file, self.safe_copy, self.batch_axes)


def read_signature(file: Path, source_format: SourceFormat) -> Signature:
    """Read the signature of a file that is safe to load; blocks, and should run in a process of its own.

    Raises:
        InvalidRequest: the file is broken, or has inputs or outputs that cannot be served.
    """
    signature = _READERS[source_format](file)
    signature.check_batch()
    return signature


def _read_onnx(file: Path) -> Signature:
    import onnx
    from google.protobuf.message import DecodeError

    from registry.pipeline.input_bounds import id_bounds, with_longest

    try:
        packed = is_pack(file)
        model: Any = onnx.load_model_from_string(read_pack(file)) if packed else onnx.load(file)
        if not packed:
            onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model)
    except DecodeError as error:
        raise InvalidRequest(f"{file.name} is not an ONNX model, or damaged: {error}") from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InvalidRequest(f"{file.name} is not a valid ONNX model: {_first_line(error)}") from error
    weights = {tensor.name for tensor in model.graph.initializer}
    bounds = id_bounds(model.graph)
    signature = Signature(
        inputs=tuple(
            replace(_onnx_spec("input", value), below=bounds.get(value.name))
            for value in model.graph.input
            if value.name not in weights
        ),
        outputs=tuple(_onnx_spec("output", value) for value in model.graph.output),
    )
    return with_longest(file, signature, model.graph)


def _onnx_spec(kind: str, value: Any) -> TensorSpec:
    import onnx

    if value.type.WhichOneof("value") != "tensor_type":
        raise InvalidRequest(
            f"{kind} {value.name!r} is not a tensor, but a sequence or map: export the model without it"
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise InvalidRequest(f"{kind} {value.name!r} has no declared shape")
    datatype = datatype_from(kind, value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else VARIABLE for dim in tensor.shape.dim)
    axes = _named_axes([dim.dim_param for dim in tensor.shape.dim])
    return TensorSpec(name=value.name, datatype=datatype, shape=shape, axes=axes)


def _named_axes(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of dimensions without the batch's; empty if all are."""
    axes = ("", *map(str, names[1:]))
    return axes if any(axes) else ()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _read_exported_program(file: Path) -> Signature:
    """Read the signature of a safe copy; blocks, and should run in a process of its own.

    Raises:
        InvalidRequest: torch cannot load it, or an input or output is not a tensor.
    """
    torch = import_torch()

    try:
        program: Any = load_program(file)[0]
    except ModelFailed:
        raise
    except Exception as error:  # torch raises any kind of error for a damaged file
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
    bounds = _row_counts(program, values)
    return Signature(
        inputs=tuple(
            replace(_torch_spec("input", name, values[node]), below=bounds.get(node))
            for name, node in zip(positional + named, taken, strict=True)
        ),
        outputs=tuple(_torch_spec("output", name, values[node]) for name, node in zip(names, given, strict=True)),
        named=bool(keys),
    )


def _row_counts(program: Any, values: Mapping[str, Any]) -> dict[str, int]:
    """Return the rows of the smallest table that each input indexes, by the name of the input's node."""
    counts: dict[str, int] = {}
    for node in program.graph.nodes:
        if str(node.target).startswith("aten.embedding."):
            table, rows = node.args[0], node.args[1]
            size = int(values[table.name].shape[0])
            counts[rows.name] = min(size, counts.get(rows.name, size))
    return counts


def _torch_spec(kind: str, name: str, value: Any) -> TensorSpec:
    torch = import_torch()

    if not isinstance(value, torch.Tensor):
        raise InvalidRequest(f"{kind} {name!r} is not a tensor")
    try:
        dtype = torch.empty(0, dtype=value.dtype).numpy().dtype
    except TypeError as error:
        raise InvalidRequest(f"{kind} {name!r}: {error}") from error
    shape = tuple(size if isinstance(size, int) else VARIABLE for size in value.shape)
    axes = _named_axes(["" if isinstance(size, int) else str(size) for size in value.shape])
    return TensorSpec(name=name, datatype=datatype_from(kind, name, dtype), shape=shape, axes=axes)


def _read_openvino(file: Path) -> Signature:
    """Read the signature of a packed model; blocks, and should run in a process of its own.

    Raises:
        InvalidRequest: OpenVINO cannot read it, or it has inputs or outputs that cannot be served.
    """
    try:
        model = read_artifact(file)
    except (RuntimeError, zipfile.BadZipFile) as error:  # OpenVINO has no exception class of its own
        raise InvalidRequest(f"OpenVINO cannot read the model: {str(error).strip().splitlines()[-1]}") from error
    return Signature(
        inputs=tuple(_openvino_spec("input", port) for port in model.inputs),
        outputs=tuple(_openvino_spec("output", port) for port in model.outputs),
    )


def _openvino_spec(kind: str, port: Any) -> TensorSpec:
    if not port.names:
        raise InvalidRequest(f"an {kind} of the model has no name: convert it again, by ovc or openvino.save_model")
    name, shape = min(port.names), port.partial_shape
    if shape.rank.is_dynamic:
        raise InvalidRequest(f"{kind} {name!r} has no declared shape")
    dtype = np.dtype(port.element_type.to_dtype())
    sizes = tuple(VARIABLE if size.is_dynamic else int(size.get_length()) for size in shape)
    return TensorSpec(
        name=name, datatype=datatype_from(kind, name, object if dtype.kind == "S" else dtype), shape=sizes
    )


def processed_signature(model: Signature, processing: Processing, scores: TensorSpec) -> Signature:
    """Return the signature of a model with `processing` around it; its output `scores` holds the scores of the classes.

    Raises:
        InvalidRequest: the steps do not fit the model.
    """
    outputs = processed_outputs(processing, token_outputs(model.inputs, model.outputs), scores.name)
    given = TensorSpec(name=processing.before.input, datatype="BYTES", shape=(VARIABLE,))
    return replace(model, inputs=(given,), outputs=outputs)


def token_outputs(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the outputs of a model of texts, with the axis of tokens named as processing steps name it."""
    tokens = [name for spec in inputs if spec.name == IDS for name in spec.sequences]
    return with_token_axis(outputs, tokens[0] if tokens else "")


def model_tensors(samples: Arrays, processing: Processing) -> Arrays:
    """Return the model's tensors for inputs as clients send them, each stacked in one array with padding; blocks.

    Raises:
        InvalidRequest: an input cannot be read; the message names it.
    """
    before = load_before(processing, processing.tensors)
    rows: list[Arrays] = []
    for number, value in enumerate(samples[processing.before.input].reshape(-1).tolist()):
        try:
            rows.append(before(value))
        except InvalidRequest as error:
            raise InvalidRequest(f"{processing.before.input} {number} of the samples: {error}") from error
    return stack_padded(rows, before.fill)


def labels_of(processing: Processing | None) -> tuple[str, ...]:
    """Return the class names of the steps after a model; empty if they have none; blocks.

    Raises:
        OperatorError: the file of names cannot be read.
        InvalidRequest: it contains no names.
    """
    steps = processing.after if processing is not None else ()
    files = [step.labels for step in steps if isinstance(step, TopClasses) and step.labels]
    return read_class_names(Path(files[0])) if files else ()


_OF_TEXTS: Final = Signature(inputs=generation.INPUTS, outputs=generation.OUTPUTS)


def _read_gguf(file: Path) -> Signature:
    read_gguf_header(file)
    return _OF_TEXTS


def _read_decoder(file: Path) -> Signature:
    from registry.pipeline.decoder_file import check_decoder

    read_onnx(check_decoder, file)
    return _OF_TEXTS


_READERS: Final[dict[SourceFormat, Callable[[Path], Signature]]] = {
    SourceFormat.ONNX: _read_onnx,
    SourceFormat.EXPORTED_PROGRAM: _read_exported_program,
    SourceFormat.OPENVINO: _read_openvino,
    SourceFormat.GGUF: _read_gguf,
    SourceFormat.ONNX_DECODER: _read_decoder,
}
