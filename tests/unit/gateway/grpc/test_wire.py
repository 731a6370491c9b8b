"""Tests of splitting and building messages around raw contents, compared with protobuf."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.grpc.inference_pb2 import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from gateway.grpc.wire import field, joined, split_field
from schemas.errors import InvalidRequest

RAW = ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
TENSORS = st.lists(st.binary(max_size=300), max_size=5)


@given(name=st.text(), shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4), raw=TENSORS)
def test_split_field_extracts_raw_contents(name: str, shape: list[int], raw: list[bytes]) -> None:
    request = ModelInferRequest(model_name=name, inputs=[{"name": name, "shape": shape}], raw_input_contents=raw)
    rest, found = split_field(request.SerializeToString(), RAW)
    assert [bytes(view) for view in found] == raw
    request.ClearField("raw_input_contents")
    assert ModelInferRequest.FromString(rest) == request


@given(first=TENSORS, second=TENSORS)
def test_split_field_accepts_any_position(first: list[bytes], second: list[bytes]) -> None:
    parts = [ModelInferRequest(model_name="a", raw_input_contents=first), ModelInferRequest(raw_input_contents=second)]
    rest, found = split_field(b"".join(part.SerializeToString() for part in parts) + b"\x1a\x01i", RAW)
    assert [bytes(view) for view in found] == first + second
    assert ModelInferRequest.FromString(rest) == ModelInferRequest(model_name="a", id="i")


@given(st.binary(max_size=60))
def test_split_field_accepts_or_refuses_any_bytes(content: bytes) -> None:
    try:
        rest, found = split_field(content, RAW)
    except InvalidRequest:
        return
    assert len(rest) + sum(map(len, found)) <= len(content)


@pytest.mark.parametrize("content", [b"\x3a\x05abc", b"\x3a", b"\x80", b"\x3a" + b"\xff" * 11, b"\x0d\x00", b"\x0b"])
def test_split_field_refuses_malformed_bytes(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the message is no protobuf"):
        split_field(content, RAW)


@given(TENSORS)
def test_field_and_joined_build_a_message(raw: list[bytes]) -> None:
    pieces = [ModelInferResponse(id="q").SerializeToString()]
    for content in raw:
        pieces += field(ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER, [content[:1], memoryview(content)[1:]])
    wanted = ModelInferResponse(id="q", raw_output_contents=raw)
    assert ModelInferResponse.FromString(joined(pieces)) == wanted
    streamed = joined(field(ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER, pieces))
    assert ModelStreamInferResponse.FromString(streamed).infer_response == wanted
