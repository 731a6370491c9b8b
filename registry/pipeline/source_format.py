"""Format of a model file, recognised by content without executing it, and properties read from each format.

A pickle is a program: loading it runs its author's code. Pickles are therefore refused, also inside a zip archive (as
`torch.save` and TorchScript write), and no step unpickles anything.
"""

import hashlib
import importlib
import zipfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from registry.artifacts import sha256_of
from runtimes.gguf_header import MAGIC, read_gguf_header
from runtimes.onnx import is_pack
from runtimes.openvino import is_openvino_pack, read_graph
from schemas.errors import InvalidRequest, OperatorError

T = TypeVar("T")
_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_ONNX_IR_VERSION: Final = b"\x08"
"""First byte of an ONNX file: every exporter writes `ModelProto.ir_version`, field 1, a varint, first."""
_PICKLED_NAMES: Final = (".pkl", ".pickle", ".joblib", ".dill")
_INSTEAD: Final = "register an .onnx file, a .pt2 written by torch.export.save, or a language model in a .gguf file"
_QUANTISED: Final = b'type="FakeQuantize"'


class SourceFormat(StrEnum):
    """Format of the file that a model was registered from, as in `Architecture.source_format`."""

    ONNX = "onnx"
    EXPORTED_PROGRAM = "exported-program"
    OPENVINO = "openvino"
    """A graph and weights in OpenVINO's own format, packed in one file."""
    GGUF = "gguf"
    """A language model with its tokenizer, for llama.cpp."""
    ONNX_DECODER = "onnx-decoder"
    """A language model as an ONNX graph that takes and returns keys and values, with its tokenizer in the metadata."""

    @property
    def is_generative(self) -> bool:
        """True if it makes texts token by token."""
        return self in (SourceFormat.GGUF, SourceFormat.ONNX_DECODER)


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
    if start == MAGIC:
        return SourceFormat.GGUF
    if start[:1] == _ONNX_IR_VERSION:
        return SourceFormat.ONNX_DECODER if read_onnx(_is_decoder, file) else SourceFormat.ONNX
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
    others = read_onnx(_external_files, file) if form is SourceFormat.ONNX else []
    if not others:
        return own
    parts = [own, *(f"{other.name} {sha256_of(other)}" for other in others)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def files_beside(file: Path) -> list[Path]:
    """Return the other files that a model's file needs beside it; blocks. Raises as `model_sha256` does."""
    if file.suffix == ".xml":  # graph of OpenVINO
        return [file.with_suffix(".bin")]
    return read_onnx(_external_files, file) if source_format(file) is SourceFormat.ONNX else []


def weights_precision(file: Path, form: SourceFormat) -> str:
    """Return the number format of a model's weights, read without executing it; blocks."""
    match form:
        case SourceFormat.ONNX | SourceFormat.ONNX_DECODER:
            return read_onnx(_precision, file)
        case SourceFormat.OPENVINO:
            return _openvino_precision(file)
        case SourceFormat.GGUF:
            return read_gguf_header(file).precision
        case SourceFormat.EXPORTED_PROGRAM:
            return "fp32"


def operators_within(file: Path) -> frozenset[str]:
    """Return the operators of an ONNX file, including those in its loops and branches; blocks.

    Raises:
        OperatorError: the onnx package is not installed.
        InvalidRequest: the file is not an ONNX model.
    """
    return read_onnx(_operators, file)


def _is_decoder(file: Path) -> bool:
    from registry.pipeline.decoder_file import is_decoder_file

    return is_decoder_file(file)


def _operators(file: Path) -> frozenset[str]:
    from registry.pipeline.adaptation.graph import operators_of

    return operators_of(file)


def _external_files(file: Path) -> list[Path]:
    from registry.pipeline.adaptation.graph import external_files

    return external_files(file)


def _precision(file: Path) -> str:
    from registry.pipeline.adaptation.graph import precision_of

    return precision_of(file)


def read_onnx(read: Callable[[Path], T], file: Path) -> T:
    """Return the result of `read`, which needs the onnx package; raises as `operators_within` does."""
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
    if is_pack(file) and read_onnx(_is_decoder, file):
        return SourceFormat.ONNX_DECODER
    if any(name.endswith("/archive_format") for name in names):
        return SourceFormat.EXPORTED_PROGRAM
    if any(name.endswith(".pkl") for name in names):
        raise _refused(file)
    raise InvalidRequest(f"{file.name} is an archive without a model, or from torch before 2.8: {_INSTEAD}")


def _refused(file: Path) -> InvalidRequest:
    return InvalidRequest(f"{file.name} is a pickle, and loading a pickle executes code from the file: {_INSTEAD}")


def _openvino_precision(file: Path) -> str:
    """Return the number format in which a packed model computes, whatever the format of its weights; blocks.

    Raises:
        InvalidRequest: the file is damaged.
    """
    try:
        return "int8" if _QUANTISED in read_graph(file) else "fp32"
    except (KeyError, zipfile.BadZipFile) as error:
        raise InvalidRequest(f"{file.name} is a damaged archive: {error}") from error
