"""Conversion of tensors between clients and models: casts of inputs, and scores to classes.

Python and numpy numbers are FP64 and INT64 by default, but most models take FP32 and some take INT32. A client that
sends default types means the same numbers as a client that sends JSON. Rules of casts:
* Floats are cast to floats of any other size, with rounding. A finite value that would become infinite is refused.
* Integers are cast to integers of any other size or to floats if every value stays exact, because they may be ids.
* All other casts are refused: floats are never cast to integers, and BOOL and BYTES are never cast.

Classes are those of Triton's classification extension: `score:index`, or `score:index:name` if the classes have names.
Scores are formatted as Triton formats them, because clients parse the texts.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from schemas.errors import InvalidRequest
from schemas.oip import InferRequest
from schemas.signature import TensorSpec
from schemas.tensors import BF16, DTYPES, Array, bf16_of, bytes_array, datatype_of, float32_of

_INTEGERS: Final = "iu"
_NUMBERS: Final = "iuf"


def cast_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Cast the inputs whose type differs from the signature's; inputs of the right type are left out of the result.

    Raises:
        InvalidRequest: a type cannot be cast, or a value does not fit; the message names the input.
    """
    return {
        spec.name: _cast(spec, inputs[spec.name])
        for spec in specs
        if spec.name in inputs and inputs[spec.name].dtype != DTYPES[spec.datatype]
    }


def parameter_values(specs: Sequence[TensorSpec], request: InferRequest) -> dict[str, Array]:
    """Return the value of each parameter for all rows of a query: of an input, of the query's parameters, or default.

    Raises:
        InvalidRequest: an input has several values, or a parameter is no number.
    """
    parameters = [spec for spec in specs if spec.parameter]
    if not parameters:
        return {}
    others = [request.inputs[spec.name] for spec in specs if not spec.parameter and spec.name in request.inputs]
    rows = max((len(array) for array in others if array.ndim), default=1)
    return {spec.name: np.full(rows, _one_value(spec, request)) for spec in parameters}


def _one_value(spec: TensorSpec, request: InferRequest) -> Any:
    """Return the value in the type in which it came, which is cast as any input is."""
    given = request.inputs.get(spec.name)
    if given is None:
        value = request.parameters.get(spec.name, spec.default)
        if not isinstance(value, (int, float)):
            raise InvalidRequest(f"parameter {spec.name} must be a number, not {str(value)[:40]!r}")
        return int(value) if isinstance(value, bool) and spec.datatype != "BOOL" else value
    if not given.size or (given != given.flat[0]).any():
        raise InvalidRequest(f"input {spec.name} must have one value, since a query has one: send it with shape []")
    return given.reshape(-1)[:1]


def _cast(spec: TensorSpec, array: Array) -> Array:
    wanted, found = DTYPES[spec.datatype], datatype_of(array)
    array = float32_of(array) if array.dtype == BF16 else array
    target = np.dtype(np.float32) if wanted == BF16 else wanted
    if array.dtype.kind not in _NUMBERS or target.kind not in (_NUMBERS if array.dtype.kind in _INTEGERS else "f"):
        raise InvalidRequest(f"input {spec.name} must be {spec.datatype}, not {found}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(target)
        result = bf16_of(cast) if wanted == BF16 else cast
        lost = _lost(array, float32_of(result) if wanted == BF16 else result)
    if lost.any():
        raise InvalidRequest(
            f"input {spec.name} must be {spec.datatype}; {found} is cast if that is lossless, but "
            f"{array[lost].flat[0]} does not fit"
        )
    return result


def _lost(array: Array, cast: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return a mask of the elements that the cast changed."""
    infinite = np.isfinite(array) & ~np.isfinite(cast)
    if array.dtype.kind == "f":
        return infinite
    # An out-of-range integer may wrap around and be equal again when it is cast back.
    beyond = float(int(np.iinfo(array.dtype).max) + 1)
    return infinite | (cast.astype(array.dtype) != array) | ((cast < 0) != (array < 0)) | (cast >= beyond)


def best_classes(scores: Array, count: int, names: Sequence[str], where: str) -> Array:
    """Return the classes of the `count` highest scores of each row, best first, as BYTES.

    Raises:
        InvalidRequest: `scores` has no numeric type; the message begins with `where`.
    """
    values = float32_of(scores) if scores.dtype == BF16 else scores
    if values.dtype.kind not in "fiu":
        raise InvalidRequest(f"{where}: {datatype_of(scores)} cannot be scores, so it has no classes")
    rows = values.reshape(len(values), math.prod(values.shape[1:]))
    falling = -rows if values.dtype.kind == "f" else np.invert(rows)  # same order as negation, without overflow
    best = np.argsort(falling, axis=-1, kind="stable")[:, :count]
    suffixes = [f":{name}" for name in names] if len(names) == rows.shape[1] else [""] * rows.shape[1]
    form = "%f:%d%s" if values.dtype.kind == "f" else "%d:%d%s"
    texts = [
        form % (row[index], index, suffixes[index]) for row, found in zip(rows, best, strict=True) for index in found
    ]
    return bytes_array(texts).reshape(best.shape)
