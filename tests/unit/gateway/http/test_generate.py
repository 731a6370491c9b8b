"""Tests of `read_generate_request` without a gateway."""

import json
from typing import Any

import pytest

from gateway.http.generate import read_generate_request
from schemas.errors import InvalidRequest


def test_read_generate_request_accepts_printable_id() -> None:
    assert read_generate_request(json.dumps({"text_input": "a", "id": "Frage 7 ä"}).encode()).id == "Frage 7 ä"


@pytest.mark.parametrize("name", ["a\nb", "a\r\nx: y", "\0", "a\x7f"])
def test_read_generate_request_refuses_unprintable_id(name: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"\$\.id"):
        read_generate_request(json.dumps({"text_input": "a", "id": name}).encode())
