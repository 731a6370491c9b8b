"""Converts labels: names of classes become numbers, in the order of a model's scores. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.signature import VARIABLE
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec
from schemas.tensors import bytes_array

_SHOWN: Final = 5


class Labels(msgspec.Struct, frozen=True):
    """Labels in the form that a measure compares with outputs."""

    values: NDArray[Any]
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores; may be empty."""


def read_labels(raw: NDArray[Any], known: Sequence[str], output: TensorSpec, listed: Sequence[str] = ()) -> Labels:
    """Return labels as numbers if the output is numeric; `known` are the classes' names, `listed` those in the source.

    Raises:
        InvalidRequest: a name is unknown, the order of the names is unknown, or a class is beyond the scores.
    """
    names = raw.dtype.kind in "USO"
    if output.datatype == "BYTES":
        return Labels(_as_bytes(raw) if names else raw, tuple(known))
    if names:
        classes = _ordered(tuple(known), raw, output, listed)
        raw = _numbered(raw, classes)
        known = classes
    values = _without_one_hot(raw, output)
    _check_range(values, output)
    return Labels(values, tuple(known))


def _as_bytes(raw: NDArray[Any]) -> NDArray[Any]:
    return bytes_array(raw.ravel().tolist()).reshape(raw.shape)


def _ordered(known: tuple[str, ...], raw: NDArray[Any], output: TensorSpec, listed: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in the order of the scores: as declared, else sorted by name if the list is complete."""
    if known:
        return known
    found = tuple(sorted(listed or {_text(cell) for cell in raw.tolist()}))
    columns = output.shape[-1] if len(output.shape) > 1 else 1
    if len(found) == columns or (columns == 1 and len(found) == 2):
        return found
    shown = "has a variable number of columns" if columns == VARIABLE else f"has {columns} columns"
    raise InvalidRequest(
        f"the labels are {len(found)} names ({', '.join(found[:_SHOWN])}, ...), but {output.name!r} {shown}: give a "
        "file of class names, one per line, in the order of the scores, by --classes"
    )


def _numbered(raw: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted({_text(cell) for cell in raw.ravel().tolist()} - numbers.keys())
    if unknown:
        raise InvalidRequest(
            f"the label {unknown[0]!r} is not a class of this task; its classes are {', '.join(classes[:_SHOWN])}, ..."
        )
    return np.array([numbers[_text(cell)] for cell in raw.ravel().tolist()], np.int64).reshape(raw.shape)


def _text(cell: str | bytes) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else cell


def _without_one_hot(values: NDArray[Any], output: TensorSpec) -> NDArray[Any]:
    """Convert one-hot rows to class numbers, and drop the second dimension of a single column."""
    columns = output.shape[-1] if len(output.shape) == 2 else 0
    flat = values.ndim == 2 and values.shape[1] == columns > 1 and values.dtype.kind in "iub"
    if flat and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        return values.argmax(axis=1)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 and columns == 1 else values


def _check_range(values: NDArray[Any], output: TensorSpec) -> None:
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(output.shape) != 2 or output.shape[1] < 2:
        return
    classes = output.shape[1]
    if values.min() < 0 or values.max() >= classes:
        raise InvalidRequest(
            f"labels are {values.min()}..{values.max()}, but the model knows the classes 0..{classes - 1}"
        )
