"""Tests of requests for chats and text completions."""

import json

import pytest

from gateway.openai.generation import read_chat_request, read_completion_request
from schemas.errors import InvalidRequest


@pytest.mark.parametrize(("name", "value"), [("seed", 2**70), ("seed", -(2**70)), ("top_k", 2**70), ("top_k", -1)])
def test_read_requests_refuse_number_out_of_range(name: str, value: int) -> None:
    chat = {"model": "m", "messages": [{"role": "user", "content": "a"}], name: value}
    with pytest.raises(InvalidRequest, match=name):
        read_chat_request(json.dumps(chat).encode())
    with pytest.raises(InvalidRequest, match=name):
        read_completion_request(json.dumps({"model": "m", "prompt": "a", name: value}).encode())
