"""A row in JSON: an object with a value for each input of the task, or the bare value if the task has one input.

Values are as in the JSON of the Open Inference Protocol: a number, a text, or a flat or nested list.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from infaas.batch.sources.row_shape import row_shape
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array, from_json

_FLAT: Final = re.compile(rb"\s*\[(?!\s*\[)")
_object: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def row_values(line: bytes, inputs: Sequence[TensorSpec]) -> Mapping[str, msgspec.Raw]:
    """Return the values of a row by name, undecoded.

    Raises:
        InvalidRequest: the line is not a JSON object.
    """
    if len(inputs) == 1 and not line.lstrip().startswith(b"{"):
        return {inputs[0].name: msgspec.Raw(line)}
    try:
        return _object.decode(line)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"the line is not a JSON object: {error}") from None


def row_inputs(values: Mapping[str, msgspec.Raw], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Decode the values of a row to inputs whose first axis has length one.

    Raises:
        InvalidRequest: an input is missing or does not fit the task.
    """
    return {spec.name: _array(spec, values) for spec in inputs}


def _array(spec: TensorSpec, values: Mapping[str, msgspec.Raw]) -> Array:
    try:
        raw = values[spec.name]
    except KeyError:
        raise InvalidRequest(f"{spec.name!r} is missing") from None
    shape = tuple(spec.shape[1:])
    if any(length < 0 for length in shape):
        shape = _found_shape(spec, raw)
    is_flat = _FLAT.match(raw) is not None
    return from_json(spec.datatype, (1, *shape), bytes(raw) if is_flat else b"[%b]" % bytes(raw), spec.name)


def _found_shape(spec: TensorSpec, raw: msgspec.Raw) -> tuple[int, ...]:
    """Return the shape of a value of an input with dynamic axes."""
    try:
        found = np.shape(msgspec.json.decode(raw))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(f"{spec.name}: the nested lists have different lengths") from None
    return row_shape(found, spec)
