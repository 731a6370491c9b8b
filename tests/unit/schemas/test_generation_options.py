"""Tests of reading the options of a generative query from its parameters."""

import json

import pytest

from schemas.errors import InvalidRequest
from schemas.generation import GenerationOptions
from schemas.generation_options import read_options
from schemas.query_names import Parameter


def test_read_options_takes_options_and_ignores_needs() -> None:
    parameters: dict[str, Parameter] = {
        "temperature": 0, "max_tokens": 5, "stop": '["a", "b"]', "chat": True, "latency_ms": 100.0, "ttft_ms": 5,
        "binary_data_output": True, "triton_final_response": True, "timeout": 7,
    }  # fmt: skip
    options = read_options(parameters)
    assert options == GenerationOptions(temperature=0.0, max_tokens=5, stop=["a", "b"], chat=True)


def test_read_options_takes_smaller_limit_of_tokens() -> None:
    assert read_options({"max_tokens": 5}, max_tokens=9).max_tokens == 5
    assert read_options({"max_tokens": 9}, max_tokens=5).max_tokens == 5
    assert read_options({}, max_tokens=5).max_tokens == 5
    assert read_options({}).max_tokens is None


def nested(levels: int) -> str:
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


def test_read_options_takes_schema_and_stops_at_their_limits() -> None:
    stops = json.dumps(["a" * 256] * 16)
    assert len(read_options({"json_schema": nested(32), "stop": stops}).stop) == 16


@pytest.mark.parametrize("given", ["x", "[not JSON"])
def test_read_options_takes_plain_stop(given: str) -> None:
    assert read_options({"stop": given}).stop == [given]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temprature": 1}, "did you mean temperature"),
        ({"xyz": 1}, "no parameter is called 'xyz'"),
        ({"temperature": 6}, "temperature must be 0 to 5"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"top_p": -0.1}, "top_p must be 0 to 1"),
        ({"max_tokens": 0}, "max_tokens must be 1"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"logprobs": 21}, "logprobs must be 0 to 20"),
        ({"stop": '["a", ""]'}, "not empty"),
        ({"stop": "a" * 257}, "at most 256 characters"),
        ({"stop": json.dumps(["a"] * 17)}, "at most 16 texts"),
        ({"json_schema": "1"}, "json_schema must be a JSON object"),
        ({"json_schema": json.dumps({"enum": ["a" * 33_000]})}, "at most 32768 bytes"),
        ({"json_schema": nested(33)}, "at most 32 levels"),
        ({"json_schema": nested(5_000)}, "json_schema must"),
        ({"json_schema": json.dumps({"a" * 1001: {}})}, "at most 1000 characters"),
        ({"json_schema": json.dumps({"pattern": "(" * 1001})}, "a pattern in json_schema"),
        ({"chat": "yes"}, "chat"),
    ],
)
def test_read_options_refuses_wrong_parameters(parameters: dict[str, Parameter], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_options(parameters)
