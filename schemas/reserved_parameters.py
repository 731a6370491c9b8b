"""Request parameters that the protocol reserves; unsupported ones are refused instead of ignored.

`timeout` is a need and is read together with the other needs. Parameters for sequences and priorities would change the
answer or its order, and this system does not implement them.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from schemas.errors import InvalidRequest

Parameter: TypeAlias = str | bool | int | float

BINARY_OUTPUT: Final = "binary_data_output"
TIMEOUT: Final = "timeout"
"""Timeout of the answer in microseconds."""
_NO_SEQUENCES: Final = "sequences are not supported, since each query is independent: leave it out"
_INSTEAD: Final = {
    "sequence_id": _NO_SEQUENCES,
    "sequence_start": _NO_SEQUENCES,
    "sequence_end": _NO_SEQUENCES,
    "priority": "priorities are not supported: set a shorter `latency_ms`, or `mode` offline if the query may wait",
}
"""Unsupported parameters, with the alternative. Triton's clients send no value, or 0, for parameters that are not
used."""


def check_reserved(parameters: Mapping[str, Parameter]) -> None:
    """Check the reserved parameters of a request.

    Raises:
        InvalidRequest: a parameter has a wrong type, or requests an unsupported feature.
    """
    if not isinstance(parameters.get(BINARY_OUTPUT, False), bool):
        raise InvalidRequest(f"Expected `bool` - at `$.parameters.{BINARY_OUTPUT}`")
    for name, instead in _INSTEAD.items():
        if parameters.get(name):
            raise InvalidRequest(f"$.parameters.{name}: {instead}")
