"""Needs and options of a call: JSON Schema, and the options of the client. A generative task has more of both. Pure."""

from typing import Any, Final, TypeAlias, cast

import msgspec

from infaas.client.client import QueryOptions
from schemas.errors import InvalidRequest
from schemas.generation import GenerationOptions
from schemas.generation_options import LIMITS, OPTIONS, read_options
from schemas.headers import GENERATIVE_NEEDS

Schema: TypeAlias = dict[str, Any]

PARAMETERS: Final = "parameters"
"""Argument of a generative task with the options of its answer."""
_NEEDS: Final[Schema] = {
    "latency_ms": {"type": "number", "exclusiveMinimum": 0, "description": "Maximum milliseconds to the answer."},
    "min_accuracy": {"type": "number", "minimum": 0, "maximum": 1, "description": "Minimum quality, 0..1."},
    "max_cost": {"type": "number", "minimum": 0},
    "ttft_ms": {"type": "number", "exclusiveMinimum": 0, "description": "Maximum milliseconds to the first token."},
    "tpot_ms": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Maximum mean milliseconds of each token after the first.",
    },
    "max_tokens": {"type": "integer", "minimum": 1, "description": "Maximum tokens of the answer."},
    "allow_late": {"type": "boolean", "description": "True if a late answer is better than a refusal."},
}
_TOLD: Final = {
    "chat": "True: the text is a chat, a JSON list of messages with `role` and `content`.",
    "temperature": "0 takes the likeliest token each time.",
    "seed": "Seed of the sampling, to get the same answer again.",
    "stop": "Texts that end the answer.",
    "json_schema": "JSON Schema, as a text, that the answer obeys.",
}
_UNOFFERED: Final = ("ignore_eos", "logprobs", *GENERATIVE_NEEDS)
"""Options that are needs, or that agents have no use for."""
_OPTIONS: Final = tuple(name for name in OPTIONS if name not in _UNOFFERED)


def needs_schema(*, generative: bool) -> Schema:
    """Return the JSON Schema of the needs of a call."""
    properties = {name: dict(schema) for name, schema in _NEEDS.items() if generative or name not in GENERATIVE_NEEDS}
    properties["max_cost"]["description"] = f"Maximum cost in USD per 1000 {_unit(generative)}."
    return {
        "type": "object",
        "description": "Needs of this query; the system picks the cheapest variant that meets them.",
        "properties": properties,
        "additionalProperties": False,
    }


def options_schema() -> Schema:
    """Return the JSON Schema of the options of a generated answer."""
    _, found = msgspec.json.schema_components((GenerationOptions,))
    properties: Schema = {}
    for name in _OPTIONS:
        properties[name] = dict(found[GenerationOptions.__name__]["properties"][name])
        if name in LIMITS:
            properties[name] |= dict(zip(("minimum", "maximum"), LIMITS[name], strict=True))
        if name in _TOLD:
            properties[name]["description"] = _TOLD[name]
    return {
        "type": "object",
        "description": "Options of the answer.",
        "properties": properties,
        "additionalProperties": False,
    }


def cost_schema(*, generative: bool) -> Schema:
    """Return the JSON Schema of the cost of an answer."""
    return {"type": ["number", "null"], "description": f"USD per 1000 {_unit(generative)}."}


def _unit(generative: bool) -> str:
    return "tokens of the answer, a typical prompt included" if generative else "such queries"


class _Needs(msgspec.Struct, forbid_unknown_fields=True):
    latency_ms: float | None = None
    min_accuracy: float | None = None
    max_cost: float | None = None
    allow_late: bool = False


class _GenerativeNeeds(_Needs, forbid_unknown_fields=True):
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    max_tokens: int | None = None


def read_needs(needs: object, argument: str, *, generative: bool) -> QueryOptions:
    """Return the options of the client for the needs in this argument of a call.

    Raises:
        InvalidRequest: a need is unknown or of another type.
    """
    try:
        found = msgspec.convert(needs or {}, _GenerativeNeeds if generative else _Needs)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"argument {argument!r}: {error}") from None
    given = {name: value for name, value in msgspec.structs.asdict(found).items() if value is not None}
    return cast("QueryOptions", given)


def read_parameters(parameters: object) -> QueryOptions:
    """Return the options of the client for the argument with the options of an answer.

    Raises:
        InvalidRequest: an option is unknown, of another type, or out of range.
    """
    try:
        found = msgspec.convert(parameters or {}, dict[str, Any])
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"argument {PARAMETERS!r}: {error}") from None
    unknown = found.keys() - set(_OPTIONS)
    if unknown:
        raise InvalidRequest(f"argument {PARAMETERS!r} has no {min(unknown)!r}: there are {', '.join(_OPTIONS)}")
    if isinstance(found.get("stop"), list):  # a parameter of a request is no list
        found["stop"] = msgspec.json.encode(found["stop"]).decode()
    try:
        read_options(found)
    except InvalidRequest as error:
        raise InvalidRequest(f"argument {PARAMETERS!r}: {error}") from None
    return QueryOptions(parameters=found) if found else QueryOptions()
