"""Options of a generative query, read from the parameters of its request, with their limits."""

import math
from collections.abc import Mapping
from typing import Final, cast

import msgspec
from msgspec.structs import fields

from schemas.errors import InvalidRequest
from schemas.generation import GenerationOptions
from schemas.headers import NEEDS
from schemas.query_names import BINARY_OUTPUT, TIMEOUT, Parameter, nearest_name

MAX_LOGPROBS: Final = 20
"""Maximum alternatives whose log-probabilities each token states, as in OpenAI's API."""
MAX_STOPS: Final = 16
MAX_STOP_CHARACTERS: Final = 256
"""Maximum characters of a stop text: text that may begin one is withheld."""
MAX_SCHEMA_BYTES: Final = 32 * 1024
MAX_SCHEMA_DEPTH: Final = 32
"""Maximum levels of a JSON Schema: the runtime's converter is recursive, and its stack is limited."""
MAX_NAME_CHARACTERS: Final = 1000
"""Maximum characters of a name, or of a pattern, in a JSON Schema."""
OPTIONS: Final = tuple(field.name for field in fields(GenerationOptions))
_FEW: Final = 2.0
LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "max_tokens": (1, 1 << 20),
    "temperature": (0.0, 5.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1 << 20),
    "presence_penalty": (-_FEW, _FEW),
    "frequency_penalty": (-_FEW, _FEW),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "logprobs": (0, MAX_LOGPROBS),
}
"""Least and greatest value of each option that is a number."""
_OTHERS: Final = frozenset((*NEEDS, "stream", BINARY_OUTPUT, TIMEOUT, "headers"))
"""Parameters that are no options: the gateway has turned them into headers."""


def read_options(parameters: Mapping[str, Parameter], *, max_tokens: int | None = None) -> GenerationOptions:
    """Return the options among the parameters of a request.

    Args:
        parameters: of the request; needs, and parameters that Triton defines, are left out.
        max_tokens: limit in the query's header, which holds beside that of the parameters.

    Raises:
        InvalidRequest: a name is unknown, or a value has a wrong type or is out of range.
    """
    given: dict[str, object] = {}
    for name, value in parameters.items():
        if name in OPTIONS:
            given[name] = value
        elif name not in _OTHERS and not name.startswith("triton_"):
            raise InvalidRequest(_unknown(name))
    if isinstance(stop := given.get("stop"), str):
        given["stop"] = _stops(stop)
    try:
        options = msgspec.convert(given, GenerationOptions)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"parameters of the request: {error}") from error
    _check(options)
    if max_tokens is not None:
        options = msgspec.structs.replace(options, max_tokens=min(max_tokens, options.max_tokens or max_tokens))
    return options


def _unknown(name: str) -> str:
    nearest = nearest_name(name[:80], (*OPTIONS, *sorted(_OTHERS)))
    instead = f"did you mean {nearest}?" if nearest else f"there are {', '.join(OPTIONS)}, and the needs"
    return f"no parameter is called {name[:80]!r}: {instead}"


def _stops(text: str) -> list[str]:
    """Return the stop texts: over gRPC several are a JSON list."""
    if not text.startswith("["):
        return [text] if text else []
    try:
        return msgspec.json.decode(text, type=list[str])
    except msgspec.DecodeError:
        return [text]


def _check(options: GenerationOptions) -> None:
    for name, (low, high) in LIMITS.items():
        value = getattr(options, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise InvalidRequest(f"parameter {name} must be {low:g} to {high:g}, not {value:g}")
    if len(options.stop) > MAX_STOPS or not all(options.stop):
        raise InvalidRequest(f"parameter stop must be at most {MAX_STOPS} texts that are not empty")
    if any(len(stop) > MAX_STOP_CHARACTERS for stop in options.stop):
        raise InvalidRequest(f"parameter stop must be texts of at most {MAX_STOP_CHARACTERS} characters")
    if options.json_schema:
        _check_schema(options.json_schema)


def _check_schema(text: str) -> None:
    size = len(text.encode(errors="replace"))
    if size > MAX_SCHEMA_BYTES:
        raise InvalidRequest(f"parameter json_schema must be at most {MAX_SCHEMA_BYTES} bytes, not {size}")
    try:
        level: list[object] = [msgspec.json.decode(text, type=dict[str, object])]
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"parameter json_schema must be a JSON object: {error}") from error
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return
    raise InvalidRequest(f"parameter json_schema must have at most {MAX_SCHEMA_DEPTH} levels")


def _inner(value: object) -> list[object]:
    """Return the objects and lists in an object or a list, after a check of the names and the pattern."""
    if isinstance(value, dict):
        found = cast("dict[str, object]", value)
        if any(len(name) > MAX_NAME_CHARACTERS for name in found):
            raise InvalidRequest(f"names in parameter json_schema must have at most {MAX_NAME_CHARACTERS} characters")
        pattern = found.get("pattern")
        if isinstance(pattern, str) and len(pattern) > MAX_NAME_CHARACTERS:
            raise InvalidRequest(f"a pattern in json_schema must have at most {MAX_NAME_CHARACTERS} characters")
        return [one for one in found.values() if isinstance(one, dict | list)]
    return [one for one in cast("list[object]", value) if isinstance(one, dict | list)]
