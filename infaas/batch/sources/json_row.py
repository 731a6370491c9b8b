"""A row in JSON: an object with a value for each input of the task, or the value alone where there is one.

A value is what the JSON form of the Open Inference Protocol has for it: a number, a text, a flat or a nested list.
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
    """Read a row's values, by name, without looking into them.

    Raises:
        InvalidRequest: it is no row.
    """
    if len(inputs) == 1 and not line.lstrip().startswith(b"{"):
        return {inputs[0].name: msgspec.Raw(line)}
    try:
        return _object.decode(line)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequest(f"the line is no JSON object: {error}") from None


def row_inputs(values: Mapping[str, msgspec.Raw], inputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """Make the inputs of a row's values, each with a first axis of one.

    Raises:
        InvalidRequest: one is missing, or is not what the task takes.
    """
    return {spec.name: _array(spec, values) for spec in inputs}


def _array(spec: TensorSpec, values: Mapping[str, msgspec.Raw]) -> Array:
    try:
        raw = values[spec.name]
    except KeyError:
        raise InvalidRequest(f"there is no {spec.name!r} in it") from None
    shape = tuple(spec.shape[1:])
    if any(length < 0 for length in shape):
        shape = _found_shape(spec, raw)
    is_flat = _FLAT.match(raw) is not None
    return from_json(spec.datatype, (1, *shape), bytes(raw) if is_flat else b"[%b]" % bytes(raw), spec.name)


def _found_shape(spec: TensorSpec, raw: msgspec.Raw) -> tuple[int, ...]:
    """The shape of a value where the task leaves lengths open."""
    try:
        found = np.shape(msgspec.json.decode(raw))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise InvalidRequest(f"{spec.name}: the nested lists are not of one length") from None
    return row_shape(found, spec)
