"""Inputs that calibrate, verify and measure a model.

Labelled rows are split into two disjoint parts, the same at each run: of a fixed permutation, the first `min(128, 10
%)` rows calibrate and the next ones measure. With a separate calibration file, all labelled rows measure.
"""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.labelled_files import Arrays, FileRows, read_labels, read_rows
from registry.quality import RELATIVE
from registry.signature import Signature
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import bytes_array, dtype_of

_CALIBRATION_ROWS: Final = 128
_CALIBRATION_SHARE: Final = 0.1
_SYNTHETIC_ROWS: Final = 64
_SEED: Final = 0
_MOST_NUMBERS: Final = 1 << 27
"""Numbers of the outputs that are compared; half a gigabyte in FP32."""
_USUAL_LENGTH: Final = 128
_FEWEST_ROWS: Final = 16
_LENGTHS: Final = "lengths of "
_CONTENT: Final = "content of "


class Samples(msgspec.Struct, frozen=True):
    """Inputs that calibrate and measure a registration, with their labels."""

    inputs: Arrays
    """Rows that verify and measure; no calibration uses them."""
    labels: NDArray[Any] | None
    """Right answer for each row of `inputs`; None without labels."""
    calibration: Arrays | None
    """Rows that calibrate; None if there are no real inputs."""
    real: bool = True
    """True if `inputs` are a user's data, false if they are generated from the signature."""
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores; may be empty."""

    @property
    def count(self) -> int:
        """Number of rows that measure."""
        return len(next(iter(self.inputs.values())))


def read_samples(
    signature: Signature,
    validation: Path | None,
    calibration: Path | None,
    output: TensorSpec,
    limit: int,
    *,
    measure: str | None = None,
    classes: Sequence[str] = (),
) -> Samples:
    """Read, check and split the files of a registration; blocks.

    Raises:
        OperatorError: a file cannot be read.
        InvalidRequest: data is missing or does not fit the model, or the labels do not fit `output`.
    """
    most = limit + _CALIBRATION_ROWS
    apart = read_rows(calibration, signature.inputs, most).inputs if calibration is not None else None
    if validation is None:
        return _unlabelled(signature, apart, limit, classes)
    rows = read_rows(validation, signature.inputs, most)
    if rows.labels is None and measure in RELATIVE:
        if apart is None:
            return _unlabelled(signature, rows.inputs, limit, classes)
        return Samples(_take(rows.inputs, _order(rows.count)[:limit]), None, apart, classes=tuple(classes))
    return _labelled(validation, rows, apart, output, limit, classes)


def read_labelled(
    signature: Signature, validation: Path, output: TensorSpec, limit: int, classes: Sequence[str]
) -> Samples:
    """Read labelled rows that only measure, for models without calibration; blocks.

    Raises as `read_samples` does.
    """
    rows = read_rows(validation, signature.inputs, limit)
    return _labelled(validation, rows, {}, output, limit, classes)


def _labelled(
    source: Path, rows: FileRows, apart: Arrays | None, output: TensorSpec, limit: int, classes: Sequence[str]
) -> Samples:
    if rows.labels is None:
        raise InvalidRequest(f"{source.name} has no 'label' column; without labels, give --measure agreement")
    try:
        labels = read_labels(rows.labels, classes, output, rows.classes)
    except InvalidRequest as error:
        raise InvalidRequest(f"{source.name}: {error}") from error
    order = _order(rows.count)
    if apart is None:
        count = max(1, min(_CALIBRATION_ROWS, int(rows.count * _CALIBRATION_SHARE)))
        apart, order = _take(rows.inputs, order[:count]), order[count:]
    chosen = order[:limit]
    return Samples(_take(rows.inputs, chosen), labels.values[chosen], apart or None, classes=labels.classes)


def _unlabelled(signature: Signature, rows: Arrays | None, limit: int, classes: Sequence[str]) -> Samples:
    if rows is None:
        return Samples(synthetic_inputs(signature.inputs), None, None, real=False, classes=tuple(classes))
    order = _order(len(next(iter(rows.values()))))
    half = max(1, min(_CALIBRATION_ROWS, len(order) // 2))
    return Samples(_take(rows, order[half:][:limit]), None, _take(rows, order[:half]), classes=tuple(classes))


def _order(count: int) -> NDArray[Any]:
    return np.random.default_rng(_SEED).permutation(count)


def most_rows(outputs: Sequence[TensorSpec]) -> int:
    """Return the number of rows whose outputs are compared at most, since all are held in memory.

    Outputs along a sequence are large: the logits of 50,000 words are 25 MB for a text of 128 tokens.
    """
    row = sum(prod(size if size >= 0 else _USUAL_LENGTH for size in spec.shape[1:]) for spec in outputs)
    return max(_MOST_NUMBERS // max(row, 1), _FEWEST_ROWS)


def save_arrays(file: Path, arrays: Arrays) -> None:
    """Write arrays for another process; BYTES are stored as lengths and content, so that no pickle is needed.

    Raises:
        OperatorError: the disk is full or the file cannot be written.
    """
    plain: Arrays = {}
    for name, array in arrays.items():
        if array.dtype.kind == "O":
            values: list[bytes] = array.ravel().tolist()
            plain[_LENGTHS + name] = np.array([len(value) for value in values], np.int64).reshape(array.shape)
            plain[_CONTENT + name] = np.frombuffer(b"".join(values), np.uint8)
        else:
            plain[name] = array
    try:
        with file.open("wb") as content:
            np.savez(content, allow_pickle=False, **plain)
    except OSError as error:
        raise OperatorError(f"cannot write {file}: {error.strerror or error}") from error


def load_arrays(file: Path) -> Arrays:
    """Read arrays that `save_arrays` wrote."""
    with np.load(file, allow_pickle=False) as archive:
        stored = {name: archive[name] for name in archive.files}
    arrays: Arrays = {}
    for name, array in stored.items():
        if name.startswith(_LENGTHS):
            plain = name.removeprefix(_LENGTHS)
            arrays[plain] = _split(stored[_CONTENT + plain], array)
        elif not name.startswith(_CONTENT):
            arrays[name] = array.astype(object) if array.dtype.kind == "S" else array
    return arrays


def _split(content: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[Any]:
    data, ends = content.tobytes(), np.cumsum(lengths.ravel())
    parts = zip(ends.tolist(), lengths.ravel().tolist(), strict=True)
    return bytes_array([data[end - length : end] for end, length in parts]).reshape(lengths.shape)


def take_rows(samples: Arrays, start: int, count: int) -> Arrays:
    """Return `count` rows from `start` on, continuing with the first row after the last."""
    total = len(next(iter(samples.values())))
    start %= total
    if start + count <= total:
        return {name: array[start : start + count] for name, array in samples.items()}
    rows = np.arange(start, start + count) % total
    return {name: array[rows] for name, array in samples.items()}


def batches_of(samples: Arrays, size: int) -> Iterator[Arrays]:
    """Yield all rows once, in batches of at most `size`."""
    rows = len(next(iter(samples.values())))
    for start in range(0, rows, size):
        yield take_rows(samples, start, min(size, rows - start))


def synthetic_inputs(inputs: Sequence[TensorSpec]) -> Arrays:
    """Generate rows from a signature: they show whether and how fast a model runs, but not how well.

    Raises:
        InvalidRequest: an input is not numeric, or has a variable axis besides the batch.
    """
    random = np.random.default_rng(_SEED)
    arrays: Arrays = {}
    for spec in inputs:
        if spec.parameter:
            raise InvalidRequest(
                f"input {spec.name!r} is a scalar without a default value: give inputs by --calibration, in an .npz "
                f"that holds {spec.name!r}, too"
            )
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
