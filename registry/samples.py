"""The inputs that calibrate, verify and measure a model.

From one labelled `.npz` two disjoint parts are taken, the same at each run: the first `min(128, 10 %)` rows of a fixed
permutation calibrate, the next ones measure. A calibration file of its own leaves all labelled rows to the measurement.
Arrays are read without pickles; they are converted to the model's datatypes where that loses no more than precision.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.signature import Signature, fits
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import dtype_of

LABEL: Final = "label"
_CALIBRATION_ROWS: Final = 128
_CALIBRATION_SHARE: Final = 0.1
_FEWEST_LABELLED: Final = 10
_SYNTHETIC_ROWS: Final = 64
_SEED: Final = 0

Arrays = dict[str, NDArray[Any]]


class Samples(msgspec.Struct, frozen=True):
    """Inputs that a registration calibrates and measures with, and their labels."""

    inputs: Arrays
    """Rows that verify and measure; never seen by a calibration."""
    labels: NDArray[np.int64] | None
    """The class of each row of `inputs`; None where accuracy is only declared."""
    calibration: Arrays | None
    """Rows that calibrate; None where there are no real inputs for it."""
    real: bool = True
    """Whether `inputs` are a person's data and not made up from the signature."""

    @property
    def count(self) -> int:
        """Number of rows that measure."""
        return len(next(iter(self.inputs.values())))


def read_samples(
    signature: Signature, validation: Path | None, calibration: Path | None, scores: TensorSpec, limit: int
) -> Samples:
    """Read, check and split the files of a registration; blocks.

    Raises:
        OperatorError: a file cannot be read.
        InvalidRequest: an array is missing or does not fit the model, or the labels do not fit `scores`.
    """
    apart = _load(calibration, signature) if calibration is not None else None
    if validation is not None:
        labelled = _load(validation, signature)
        labels = _labels(validation, labelled.pop(LABEL, None), scores, _rows(labelled))
        order = np.random.default_rng(_SEED).permutation(len(labels))
        if apart is None:
            count = max(1, min(_CALIBRATION_ROWS, int(len(labels) * _CALIBRATION_SHARE)))
            apart, order = _take(labelled, order[:count]), order[count:]
        return Samples(_take(labelled, order[:limit]), labels[order[:limit]], apart)
    if apart is not None:
        apart.pop(LABEL, None)
        order = np.random.default_rng(_SEED).permutation(_rows(apart))
        half = max(1, min(_CALIBRATION_ROWS, len(order) // 2))
        return Samples(_take(apart, order[half:][:limit]), None, _take(apart, order[:half]))
    return Samples(_synthetic(signature), None, None, real=False)


def save_arrays(file: Path, arrays: Arrays) -> None:
    """Write arrays for another process; BYTES as fixed-width bytes, so that no pickle is needed.

    Raises:
        OperatorError: the disk is full or the file cannot be written.
    """
    plain = {name: array.astype("S") if array.dtype.kind == "O" else array for name, array in arrays.items()}
    try:
        with file.open("wb") as content:
            np.savez(content, allow_pickle=False, **plain)
    except OSError as error:
        raise OperatorError(f"cannot write {file}: {error.strerror or error}") from error


def load_arrays(file: Path) -> Arrays:
    """Read what `save_arrays` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: array.astype(object) if array.dtype.kind == "S" else array for name, array in arrays.items()}


def take_rows(samples: Arrays, start: int, count: int) -> Arrays:
    """Take `count` rows from `start` on, beginning again at the end."""
    total = len(next(iter(samples.values())))
    start %= total
    if start + count <= total:
        return {name: array[start : start + count] for name, array in samples.items()}
    rows = np.arange(start, start + count) % total
    return {name: array[rows] for name, array in samples.items()}


def _load(file: Path, signature: Signature) -> Arrays:
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, TypeError, AttributeError) as error:  # what numpy says of it advises to trust pickles
        raise InvalidRequest(f"{file.name} is no .npz of plain arrays") from error
    found = {spec.name: _converted(file, arrays, spec) for spec in signature.inputs}
    if len({len(array) for array in found.values()}) > 1:
        lengths = ", ".join(f"{name}: {len(array)}" for name, array in found.items())
        raise InvalidRequest(f"{file.name}: the arrays have different numbers of rows ({lengths})")
    if _rows(found) < _FEWEST_LABELLED:
        raise InvalidRequest(f"{file.name} has {_rows(found)} rows; at least {_FEWEST_LABELLED} are needed")
    if LABEL in arrays:
        found[LABEL] = arrays[LABEL]
    return found


def _converted(file: Path, arrays: Arrays, spec: TensorSpec) -> NDArray[Any]:
    if spec.name not in arrays:
        raise InvalidRequest(f"{file.name} has no array {spec.name!r}; it has {', '.join(arrays) or 'none'}")
    array, wanted = arrays[spec.name], dtype_of(spec.datatype, spec.name)
    if not fits(array.shape, spec.shape):
        raise InvalidRequest(
            f"{file.name}: array {spec.name!r} has the shape {list(array.shape)}, the model takes {list(spec.shape)}"
        )
    if wanted.kind == "O" and array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise InvalidRequest(f"{file.name}: array {spec.name!r} is {array.dtype}, the model takes {spec.datatype}")
    return array.astype(wanted, copy=False)


def _labels(file: Path, labels: NDArray[Any] | None, scores: TensorSpec, rows: int) -> NDArray[np.int64]:
    if labels is None:
        raise InvalidRequest(f"{file.name} has no array {LABEL!r} with the right class of each row")
    if len(scores.shape) != 2:
        raise InvalidRequest(
            f"accuracy is measured on scores of the shape [batch, classes], but {scores.name!r} has "
            f"{list(scores.shape)}: declare it by --accuracy instead"
        )
    if labels.shape != (rows,) or labels.dtype.kind not in "iu":
        raise InvalidRequest(
            f"{file.name}: {LABEL!r} must be {rows} integers, one a row, not {labels.dtype} of {list(labels.shape)}"
        )
    classes = scores.shape[1]
    if labels.min() < 0 or (classes >= 0 and labels.max() >= classes):
        raise InvalidRequest(
            f"{file.name}: labels are {labels.min()}..{labels.max()}, but the model knows the classes 0..{classes - 1}"
        )
    return labels.astype(np.int64)


def _synthetic(signature: Signature) -> Arrays:
    """Made-up rows: good enough to see whether and how fast a model runs, not how well."""
    random = np.random.default_rng(_SEED)
    arrays: Arrays = {}
    for spec in signature.inputs:
        shape, dtype = (_SYNTHETIC_ROWS, *spec.shape[1:]), dtype_of(spec.datatype, spec.name)
        if min(shape) < 0 or dtype.kind not in "fiub":
            raise InvalidRequest(
                f"input {spec.name!r} is {spec.datatype} {list(spec.shape)}: to measure it, give example inputs "
                "(a validation or a calibration file)"
            )
        values = random.random(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        arrays[spec.name] = values.astype(dtype)
    return arrays


def _take(arrays: Arrays, rows: NDArray[Any]) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _rows(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
