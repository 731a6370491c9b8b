"""Tests of errors in OpenAI's form."""

import pytest

from gateway.openai.errors import openai_error
from schemas.openai import OpenAiError


@pytest.mark.parametrize(
    ("status", "message", "kind", "param"),
    [
        (400, "$.input: give a text", "invalid_request_error", "input"),
        (400, "Expected `int` - at `$.dimensions`", "invalid_request_error", "dimensions"),
        (400, "parameter min_accuracy must be a number", "invalid_request_error", "min_accuracy"),
        (400, "no parameter is called 'x'", "invalid_request_error", None),
        (401, "send a key", "authentication_error", None),
        (403, "this requires the role admin", "permission_error", None),
        (404, "no task is called 'x'", "not_found_error", None),
        (422, "no registered variant meets these needs", "invalid_request_error", None),
        (429, "the quota is used up", "rate_limit_error", None),
        (500, "failed at $.input", "server_error", None),
        (503, "too busy", "server_error", None),
    ],
)
def test_openai_error_has_type_and_param(status: int, message: str, kind: str, param: str | None) -> None:
    assert openai_error(status, message, "code") == OpenAiError(message, kind, param, "code")
