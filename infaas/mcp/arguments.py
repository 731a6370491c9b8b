"""Arguments and results of a tool, from the signature of its task: JSON Schema, and conversion to and from tensors.

A call is one query of one input, so the first axis, the batch, is in no schema. An input of BYTES that holds one
element is a text, or a file in base64. Needs are in an object of their own, since inputs may have any name. The options
of a generated answer are in another one. Pure.
"""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final

import msgspec
import numpy as np

from infaas.client.client import Answer, QueryOptions
from infaas.mcp.needs import (
    PARAMETERS,
    Schema,
    cost_schema,
    needs_schema,
    options_schema,
    read_needs,
    read_parameters,
)
from schemas.errors import InvalidRequest
from schemas.oip import decode_request
from schemas.rows.catalog import Task
from schemas.signature import TensorSpec
from schemas.tensors import BYTES, Array, bytes_array

NEEDS: Final = "needs"
_ELEMENTS: Final[Mapping[str, Schema]] = {
    "B": {"type": "boolean"},
    "I": {"type": "integer"},
    "U": {"type": "integer", "minimum": 0},
    "F": {"type": "number"},
}
"""Schemas of elements, by the first letter of the datatype."""
_FILE: Final[Schema] = {
    "type": "object",
    "description": "A file, e.g. a PNG or JPEG image.",
    "properties": {"base64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["base64"],
    "additionalProperties": False,
}
_TEXT_OR_FILE: Final[Schema] = {"anyOf": [{"type": "string"}, _FILE]}
_RESULT: Final[Schema] = {
    "variant": {"type": "string", "description": "The variant that answered."},
    "worker": {"type": "string"},
    "accuracy": {"type": ["number", "null"], "description": "Quality of the variant, 0..1, by the task's measure."},
    "cost": {"type": ["number", "null"]},
    "total_ms": {"type": "number"},
    "late": {"type": "boolean", "description": "True if the answer came after the deadline."},
}


def description(task: Task) -> str:
    """Return the description of a task's tool, for an agent."""
    text = f"Inference task {task.name}, quality measured as {task.measure}."
    return f"{text} Classes: {', '.join(task.classes[:50])}." if task.classes else text


def input_schema(task: Task) -> Schema:
    """Return the JSON Schema of a tool's arguments."""
    inputs = {spec.name: _input(spec) for spec in task.inputs}
    required = [spec.name for spec in task.inputs if spec.default is None]
    limits: Schema = {needs_name(task): needs_schema(generative=task.is_generative)}
    if task.is_generative:
        limits[PARAMETERS] = options_schema()
    return {
        "type": "object",
        "properties": inputs | limits,
        "required": required,
        "additionalProperties": False,
    }


def output_schema(task: Task) -> Schema:
    """Return the JSON Schema of a tool's structured result."""
    outputs: Schema = {"type": "object", "properties": {spec.name: {} for spec in task.outputs}}
    result = _RESULT | {"cost": cost_schema(generative=task.is_generative)}
    return {"type": "object", "properties": {"outputs": outputs, **result}, "required": ["outputs", *result]}


def needs_name(task: Task) -> str:
    """Return the name of the argument with the needs: `needs`, unless an input is called so."""
    return f"infaas_{NEEDS}" if any(spec.name == NEEDS for spec in task.inputs) else NEEDS


def tensors_of(task: Task, arguments: Mapping[str, Any]) -> dict[str, Array]:
    """Return the tensors of a call's arguments, with a batch of one.

    Raises:
        InvalidRequest: an argument is missing, unknown, or of another type or shape; the message names it.
    """
    specs = {spec.name: spec for spec in task.inputs}
    others = (needs_name(task), PARAMETERS) if task.is_generative else (needs_name(task),)
    unknown = arguments.keys() - specs.keys() - set(others)
    if unknown:
        raise InvalidRequest(f"unknown argument {min(unknown)!r}: there are {', '.join((*specs, *others))}")
    found = {name: _tensor(spec, arguments[name]) for name, spec in specs.items() if name in arguments}
    missing = [name for name, spec in specs.items() if name not in arguments and spec.default is None]
    if missing:
        raise InvalidRequest(f"argument {missing[0]!r} is missing")
    return found


def needs_of(task: Task, arguments: Mapping[str, Any]) -> QueryOptions:
    """Return the needs of a call, and the options of its answer.

    Raises:
        InvalidRequest: one is unknown, of another type, or out of range.
    """
    name, generative = needs_name(task), task.is_generative
    needs = read_needs(arguments.get(name), name, generative=generative)
    return {**needs, **read_parameters(arguments.get(PARAMETERS))} if generative else needs


def structured(answer: Answer) -> dict[str, Any]:
    """Return the structured result of an answer to one input."""
    outputs = {name: _plain(array[0] if array.ndim else array) for name, array in answer.outputs.items()}
    return {"outputs": outputs, **{name: getattr(answer, name) for name in _RESULT}}


def _input(spec: TensorSpec) -> Schema:
    schema = _TEXT_OR_FILE if spec.datatype == "BYTES" else dict(_ELEMENTS.get(spec.datatype[0], {}))
    if spec.below is not None:
        schema |= {"minimum": 0, "exclusiveMaximum": spec.below}
    axes = () if _is_single(spec) else spec.shape[1:]
    for size in reversed(axes):
        bounds = {"minItems": size, "maxItems": size} if size >= 0 else {}
        schema = {"type": "array", "items": schema, **bounds}
    return schema if spec.default is None else {**schema, "default": spec.default}


def _is_single(spec: TensorSpec) -> bool:
    """Return true if an input holds one element, which is then given without brackets."""
    return prod(spec.shape[1:]) == 1


def _tensor(spec: TensorSpec, value: Any) -> Array:
    single = _is_single(spec)
    sizes = [1, *(spec.shape[1:] if single else _sizes(value, len(spec.shape) - 1))]
    elements = [value] if single and not isinstance(value, list) else list(_elements(value))
    for wanted, size in zip(spec.shape[1:], sizes[1:], strict=True):
        if wanted not in (-1, size):
            raise InvalidRequest(f"argument {spec.name!r} has shape {sizes[1:]}; it must have {list(spec.shape[1:])}")
    if spec.datatype == "BYTES":
        return bytes_array([_bytes(spec.name, element) for element in elements]).reshape(sizes)
    tensor = {"name": spec.name, "shape": sizes, "datatype": spec.datatype, "data": elements}
    try:
        return decode_request(msgspec.json.encode({"inputs": [tensor]}), None).inputs[spec.name]
    except InvalidRequest as error:
        raise InvalidRequest(f"argument {spec.name!r}: {error}") from None


def _sizes(value: Any, axes: int) -> list[int]:
    """Return the lengths of nested lists along their first elements."""
    found = list[int]()
    while isinstance(value, list) and len(found) < axes:
        items: Sequence[Any] = value
        found.append(len(items))
        value = items[0] if items else None
    return found + [1] * (axes - len(found))


def _elements(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        items: Sequence[Any] = value
        for item in items:
            yield from _elements(item)
    else:
        yield value


def _bytes(name: str, value: Any) -> bytes:
    match value:
        case str():
            return value.encode()
        case {"base64": str(text)}:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error:
                raise InvalidRequest(f"argument {name!r} is no valid base64") from None
        case _:
            raise InvalidRequest(f'argument {name!r} must be a text, or {{"base64": "..."}}')


def _plain(values: Any) -> Any:
    """Return values as JSON has them: bytes that are no text in base64, NaN and infinities as null."""
    if isinstance(values, bytes):
        try:
            return values.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(values).decode()}
    array: Array = np.asarray(values)
    if array.dtype == BYTES:
        return [_plain(one) for one in array] if array.ndim else _plain(array.item())
    if array.dtype.kind == "f":
        found = array.astype(object)
        found[~np.isfinite(array)] = None
        return found.tolist()
    return array.tolist()
