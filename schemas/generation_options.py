"""Options of a generative query, read from the parameters of its request, with their limits."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import fields

from schemas.errors import InvalidRequest
from schemas.generation import GenerationOptions
from schemas.headers import NEEDS
from schemas.query_names import BINARY_OUTPUT, TIMEOUT, Parameter, nearest_name

MAX_LOGPROBS: Final = 20
"""Maximum alternatives whose log-probabilities each token states, as in OpenAI's API."""
MAX_STOPS: Final = 16
OPTIONS: Final = tuple(field.name for field in fields(GenerationOptions))
_FEW: Final = 2.0
_LIMITS: Final = {
    "max_tokens": (1, 1 << 20),
    "temperature": (0.0, 5.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1 << 20),
    "presence_penalty": (-_FEW, _FEW),
    "frequency_penalty": (-_FEW, _FEW),
    "seed": (-(1 << 63), (1 << 64) - 1),
    "logprobs": (0, MAX_LOGPROBS),
}
_OTHERS: Final = frozenset((*NEEDS, "ttft_ms", "tpot_ms", "stream", BINARY_OUTPUT, TIMEOUT, "headers"))
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
    for name, (low, high) in _LIMITS.items():
        value = getattr(options, name)
        if value is not None and not (low <= value <= high and math.isfinite(value)):
            raise InvalidRequest(f"parameter {name} must be {low:g} to {high:g}, not {value:g}")
    if len(options.stop) > MAX_STOPS or not all(options.stop):
        raise InvalidRequest(f"parameter stop must be at most {MAX_STOPS} texts that are not empty")
