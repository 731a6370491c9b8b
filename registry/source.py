"""What kind of file a model is, told by its content and never by executing it.

A pickle is a program: loading one runs whatever its author wrote. So pickles are refused, also inside a zip archive
(what `torch.save` and TorchScript write); nothing here or later unpickles anything. `exported.py` looks into `.pt2`
files.
"""

import zipfile
from enum import StrEnum
from pathlib import Path
from typing import Final

from schemas.errors import InvalidRequest, OperatorError

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_ONNX_IR_VERSION: Final = b"\x08"
"""Every exporter writes `ModelProto.ir_version`, field 1, a varint, first."""
_PICKLED_NAMES: Final = (".pkl", ".pickle", ".joblib", ".dill")
_INSTEAD: Final = "register an .onnx file, or a .pt2 written by torch.export.save"


class SourceFormat(StrEnum):
    """As in `Architecture.source_format`."""

    ONNX = "onnx"
    EXPORTED_PROGRAM = "exported-program"


def source_format(file: Path) -> SourceFormat:
    """Recognise a model file; blocks.

    Raises:
        OperatorError: the file cannot be read.
        InvalidRequest: it is a pickle, or no model that can be registered.
    """
    try:
        with file.open("rb") as content:
            start = content.read(4)
        if start == _ZIP:
            return _archive_format(file)
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    if start[:1] == _PICKLE or file.suffix in _PICKLED_NAMES:
        raise _refused(file)
    if start[:1] == _ONNX_IR_VERSION:
        return SourceFormat.ONNX
    raise InvalidRequest(f"{file.name} is {'empty' if not start else 'no model in a known format'}: {_INSTEAD}")


def _archive_format(file: Path) -> SourceFormat:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise InvalidRequest(f"{file.name} is a damaged archive: {error}") from error
    if any(name.endswith("/archive_format") for name in names):
        return SourceFormat.EXPORTED_PROGRAM
    if any(name.endswith(".pkl") for name in names):
        raise _refused(file)
    raise InvalidRequest(f"{file.name} is an archive, but of no model, or by torch before 2.8: {_INSTEAD}")


def _refused(file: Path) -> InvalidRequest:
    return InvalidRequest(
        f"{file.name} is a pickle, and loading a pickle runs any code its author put into it: {_INSTEAD}"
    )
