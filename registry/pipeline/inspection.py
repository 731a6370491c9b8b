"""Inspects a model file: recognises its format by content, without executing it, and reads its signature.

A pickle is a program: loading it runs its author's code. Pickles are therefore refused, also inside a zip archive (as
`torch.save` and TorchScript write), and no step unpickles anything. Of a `.pt2` file a copy is written that is safe to
load (`exported_program.py`); all later steps use the copy.
"""

import hashlib
import importlib
import zipfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from registry.artifacts import sha256_of
from registry.pipeline import openvino_model
from registry.pipeline.exported_program import read_exported_program
from registry.processed import processed_signature
from registry.signature import ALONE, VARIABLE, Signature, check_task, datatype_from
from runtimes.exported_archive import make_safe
from runtimes.onnx_pack import is_pack, read_pack
from runtimes.openvino_pack import is_openvino_pack
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import Task, TensorSpec
from schemas.rows.processing import Processing

if TYPE_CHECKING:
    from registry.pipeline.adaptation.adapt import Adaptation

T = TypeVar("T")

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_ONNX_IR_VERSION: Final = b"\x08"
"""First byte of an ONNX file: every exporter writes `ModelProto.ir_version`, field 1, a varint, first."""
_PICKLED_NAMES: Final = (".pkl", ".pickle", ".joblib", ".dill")
_INSTEAD: Final = "register an .onnx file, or a .pt2 written by torch.export.save"


class SourceFormat(StrEnum):
    """Format of the file that a model was registered from, as in `Architecture.source_format`."""

    ONNX = "onnx"
    EXPORTED_PROGRAM = "exported-program"
    OPENVINO = "openvino"
    """A graph and weights in OpenVINO's own format, packed in one file."""


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
        file, adaptation = self.file, None
        if self.source_format is SourceFormat.ONNX:
            adaptation = _of_onnx(self._adapt, file)
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
        tensors, scores = signature.inputs, signature.output(self.output)
        if self.processing is not None:
            signature = processed_signature(signature, self.processing, scores)
        outputs = signature.outputs
        if self.task is not None:
            check_task(self.task, signature)
            outputs = signature.narrowed_to(self.task)
        notes, classes = (adaptation.notes, adaptation.classes) if adaptation is not None else ((), ())
        if alone and adaptation is None:
            notes = (ALONE,)
        return Inspection(file, signature, outputs, signature.output(scores.name), tensors, notes, classes, alone)

    def _adapt(self, file: Path) -> "Adaptation":
        from registry.pipeline.adaptation.adapt import adapt

        return adapt(file, self.safe_copy, self.batch_axes)


# -- the format --------------------------------------------------------------------------------------------------------
def source_format(file: Path) -> SourceFormat:
    """Return the format of a model file; blocks.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is a pickle, or not a model that can be registered.
    """
    try:
        with file.open("rb") as content:
            start = content.read(4)
        if start == _ZIP:
            return _archive_format(file)
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    if is_pickle(file, start):
        raise _refused(file)
    if start[:1] == _ONNX_IR_VERSION:
        return SourceFormat.ONNX
    raise InvalidRequest(f"{file.name} is {'empty' if not start else 'not a model in a known format'}: {_INSTEAD}")


def is_pickle(file: Path, start: bytes) -> bool:
    """Return true if a file that begins with `start` is a pickle, or has the name of one."""
    return start[:1] == _PICKLE or file.suffix in _PICKLED_NAMES


def model_sha256(file: Path, form: SourceFormat) -> str:
    """Return the SHA-256 of a model's content, including other files that hold its weights; blocks.

    Raises:
        OperatorError: a file cannot be read.
        InvalidRequest: a file of weights is missing.
    """
    own = sha256_of(file)
    others = _of_onnx(_external_files, file) if form is SourceFormat.ONNX else []
    if not others:
        return own
    parts = [own, *(f"{other.name} {sha256_of(other)}" for other in others)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def files_beside(file: Path) -> list[Path]:
    """Return the other files that a model's file needs beside it; blocks. Raises as `model_sha256` does."""
    if file.suffix == ".xml":  # graph of OpenVINO
        return [file.with_suffix(".bin")]
    return _of_onnx(_external_files, file) if source_format(file) is SourceFormat.ONNX else []


def weights_precision(file: Path, form: SourceFormat) -> str:
    """Return the number format of a model's weights, read without executing it; blocks."""
    match form:
        case SourceFormat.ONNX:
            return _of_onnx(_precision, file)
        case SourceFormat.OPENVINO:
            return openvino_model.precision_of(file)
        case SourceFormat.EXPORTED_PROGRAM:
            return "fp32"


def operators_within(file: Path) -> frozenset[str]:
    """Return the operators of an ONNX file, including those in its loops and branches; blocks.

    Raises:
        OperatorError: the onnx package is not installed.
        InvalidRequest: the file is not an ONNX model.
    """
    return _of_onnx(_operators, file)


def _operators(file: Path) -> frozenset[str]:
    from registry.pipeline.adaptation.graph import operators_of

    return operators_of(file)


def _external_files(file: Path) -> list[Path]:
    from registry.pipeline.adaptation.weights import external_files

    return external_files(file)


def _precision(file: Path) -> str:
    from registry.pipeline.adaptation.weights import precision_of

    return precision_of(file)


def _of_onnx(read: Callable[[Path], T], file: Path) -> T:
    try:
        importlib.import_module("onnx")  # `read` needs it
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise OperatorError(f"ONNX models cannot be read here ({error}): pip install 'infaas[cpu]'") from error
    try:
        return read(file)
    except DecodeError as error:
        raise InvalidRequest(f"{file.name} is not an ONNX model, or damaged: {error}") from error


def _archive_format(file: Path) -> SourceFormat:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InvalidRequest(f"{file.name} is a damaged archive: {error}") from error
    if is_openvino_pack(file):
        return SourceFormat.OPENVINO
    if any(name.endswith("/archive_format") for name in names):
        return SourceFormat.EXPORTED_PROGRAM
    if any(name.endswith(".pkl") for name in names):
        raise _refused(file)
    raise InvalidRequest(f"{file.name} is an archive without a model, or from torch before 2.8: {_INSTEAD}")


def _refused(file: Path) -> InvalidRequest:
    return InvalidRequest(f"{file.name} is a pickle, and loading a pickle executes code from the file: {_INSTEAD}")


# -- the signature -----------------------------------------------------------------------------------------------------
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
    return TensorSpec(name=value.name, datatype=datatype, shape=shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


_READERS: Final[dict[SourceFormat, Callable[[Path], Signature]]] = {
    SourceFormat.ONNX: _read_onnx,
    SourceFormat.EXPORTED_PROGRAM: read_exported_program,
    SourceFormat.OPENVINO: openvino_model.read_openvino,
}
