"""Tests of the parameters that the protocol reserves."""

import pytest

from schemas.errors import InvalidRequest
from schemas.reserved_parameters import Parameter, check_reserved


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sequence_id", 7, "sequences are not supported"),
        ("sequence_id", "mine", "sequences are not supported"),
        ("sequence_start", True, "sequences are not supported"),
        ("sequence_end", True, "sequences are not supported"),
        ("priority", 1, "latency_ms"),
        ("binary_data_output", "yes", "Expected `bool`"),
        ("binary_data_output", 1, "Expected `bool`"),
    ],
)
def test_check_reserved_refuses_unsupported_parameters(name: str, value: Parameter, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as raised:
        check_reserved({name: value})
    assert name in str(raised.value)


def test_check_reserved_accepts_neutral_values() -> None:
    check_reserved(
        {"sequence_id": 0, "sequence_start": False, "sequence_end": False, "priority": 0, "binary_data_output": True}
    )
    check_reserved({"sequence_id": "", "my_own": 7})
