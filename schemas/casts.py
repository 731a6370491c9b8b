"""Numbers of another type than a model takes, cast where that loses nothing that was meant.

Python's and numpy's own numbers are FP64 and INT64, most models take FP32, and some INT32: who sends what they have
means the same numbers, as who writes them in JSON does.

Rules.
* Floats become floats of any other size: rounded, as decimal numbers are. One that would become infinite is refused.
* Integers become integers of any other size, or floats, if every one of them stays what it is: they may be ids.
* All else is refused: floats are no integers, though they may look so, and BOOL and BYTES are neither.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from schemas.errors import InvalidRequest
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import BF16, DTYPES, Array, bf16_of, datatype_of, float32_of

_INTEGERS: Final = "iu"
_NUMBERS: Final = "iuf"


def cast_inputs(specs: Sequence[TensorSpec], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return those inputs, as the model takes them, whose type is not the signature's.

    Raises:
        InvalidRequest: one cannot be cast without losing something; the message says what.
    """
    return {
        spec.name: _cast(spec, inputs[spec.name])
        for spec in specs
        if spec.name in inputs and inputs[spec.name].dtype != DTYPES[spec.datatype]
    }


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
            f"input {spec.name} must be {spec.datatype}; {found} is cast where that loses nothing, but "
            f"{array[lost].flat[0]} does not fit"
        )
    return result


def _lost(array: Array, cast: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Where a number is no longer what it was."""
    infinite = np.isfinite(array) & ~np.isfinite(cast)
    if array.dtype.kind == "f":
        return infinite
    # What is out of range comes out as something else, which back in the old type may be the same again.
    beyond = float(int(np.iinfo(array.dtype).max) + 1)
    return infinite | (cast.astype(array.dtype) != array) | ((cast < 0) != (array < 0)) | (cast >= beyond)
