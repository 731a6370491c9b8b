"""What the protocol reserves among the parameters of a request: what is not offered is refused, not ignored.

`timeout` is a need and read by whoever takes needs; the parameters of a sequence or a priority would change the answer,
or its place among others, and nobody here could keep what they ask for.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from schemas.errors import InvalidRequest

Parameter: TypeAlias = str | bool | int | float

BINARY_OUTPUT: Final = "binary_data_output"
TIMEOUT: Final = "timeout"
"""Microseconds within which the answer is needed."""
_NO_SEQUENCES: Final = "sequences are not supported: each query is answered by itself, so leave it out"
_INSTEAD: Final = {
    "sequence_id": _NO_SEQUENCES,
    "sequence_start": _NO_SEQUENCES,
    "sequence_end": _NO_SEQUENCES,
    "priority": "there are no priorities: ask for a shorter `latency_ms`, or for `mode` offline if the query may wait",
}
"""What is not offered, and what to do instead. Triton's clients send nothing, or 0, where they want nothing of it."""


def check_reserved(parameters: Mapping[str, Parameter]) -> None:
    """Check the reserved parameters of a request.

    Raises:
        InvalidRequest: one has a wrong type, or asks for what is not offered.
    """
    if not isinstance(parameters.get(BINARY_OUTPUT, False), bool):
        raise InvalidRequest(f"Expected `bool` - at `$.parameters.{BINARY_OUTPUT}`")
    for name, instead in _INSTEAD.items():
        if parameters.get(name):
            raise InvalidRequest(f"$.parameters.{name}: {instead}")
