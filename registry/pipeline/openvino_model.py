"""Signatures of models in OpenVINO's own format, read by OpenVINO without executing the model."""

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from registry.signature import VARIABLE, Signature, datatype_from
from runtimes.openvino import read_artifact
from runtimes.openvino_pack import read_graph
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

_QUANTISED: Final = b'type="FakeQuantize"'


def read_openvino(file: Path) -> Signature:
    """Read the signature of a packed model; blocks, and should run in a process of its own.

    Raises:
        InvalidRequest: OpenVINO cannot read it, or it has inputs or outputs that cannot be served.
    """
    try:
        model = read_artifact(file)
    except (RuntimeError, zipfile.BadZipFile) as error:  # OpenVINO has no exception class of its own
        raise InvalidRequest(f"OpenVINO cannot read the model: {str(error).strip().splitlines()[-1]}") from error
    return Signature(
        inputs=tuple(_spec("input", port) for port in model.inputs),
        outputs=tuple(_spec("output", port) for port in model.outputs),
    )


def precision_of(file: Path) -> str:
    """Return the number format in which a packed model computes, whatever the format of its weights; blocks.

    Raises:
        InvalidRequest: the file is damaged.
    """
    try:
        return "int8" if _QUANTISED in read_graph(file) else "fp32"
    except (KeyError, zipfile.BadZipFile) as error:
        raise InvalidRequest(f"{file.name} is a damaged archive: {error}") from error


def _spec(kind: str, port: Any) -> TensorSpec:
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
