"""Tests of `oip_request`: a `ModelInferRequest` of any datatype and form becomes the request that a worker reads."""

from typing import Any

import numpy as np
import pytest

from gateway.grpc.inference_pb2 import ModelInferRequest, ModelStreamInferResponse
from gateway.grpc.messages import InferMessage, OipRequest, oip_request, read_message, streamed_end, with_end
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.generated_answer import read_answers
from schemas.generation import TEXT_OUTPUT
from schemas.oip import OutputParameters, decode_request, encode_response, read_head
from schemas.result import OK, parse_result
from schemas.tensors import BF16, DTYPES, Array, bf16_of, bytes_array, to_binary

MAX = 1 << 20
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def values_of(datatype: str) -> Array:
    if datatype == "BYTES":
        return bytes_array([b"", b"\xff\x00", "ä"])
    if datatype == "BF16":
        return bf16_of(np.array([1, -2.5, 0], np.float32))
    dtype = DTYPES[datatype]
    if dtype.kind in "iu":
        return np.array([np.iinfo(dtype).min, 1, np.iinfo(dtype).max], dtype)
    return np.array([1, 0, 1] if dtype.kind == "b" else [1.5, -2, np.inf], dtype)


def made(max_bytes: int = MAX, **fields: Any) -> OipRequest:
    message = ModelInferRequest(model_name="digits", **fields).SerializeToString()
    request = oip_request(read_message(message), max_bytes)
    read_head(request.value, request.json_length)  # as the gateway does next
    return request


@pytest.mark.parametrize("datatype", DTYPES)
def test_oip_request_reads_raw_contents(datatype: str) -> None:
    array = values_of(datatype)
    request = made(
        id="q",
        inputs=[{"name": "x", "datatype": datatype, "shape": [3]}, {"name": "y", "datatype": "FP16", "shape": [0]}],
        raw_input_contents=[to_binary(array), b""],
    )
    found = decode_request(request.value, request.json_length)
    assert (found.id, found.binary_output) == ("q", True)
    same_bits = array.view("u2") if array.dtype == BF16 else array
    read = found.inputs["x"]
    assert (read.view("u2") if array.dtype == BF16 else read).tolist() == same_bits.tolist()
    assert request.json_length % 16 == 0, "tensors are aligned"


@pytest.mark.parametrize(("datatype", "field"), TYPED.items())
def test_oip_request_reads_typed_contents(datatype: str, field: str) -> None:
    array = values_of(datatype)
    tensor = {"name": "x", "datatype": datatype, "shape": [1, 3], "contents": {field: array.tolist()}}
    request = made(inputs=[tensor])
    assert decode_request(request.value, request.json_length).inputs["x"].tolist() == [array.tolist()]


def test_oip_request_keeps_parameters_and_outputs() -> None:
    request = made(
        parameters={
            "latency_ms": {"int64_param": 100},
            "min_accuracy": {"double_param": 0.5},
            "mode": {"string_param": "online"},
            "explain": {"bool_param": True},
            "timeout": {"uint64_param": 2**64 - 1},
            "binary_data_output": {"bool_param": False},
        },
        inputs=[{"name": "x", "datatype": "FP32", "shape": [0]}],
        outputs=[
            {"name": "y", "parameters": {"binary_data": {"bool_param": False}}},
            {"name": "z", "parameters": {"classification": {"int64_param": 3}}},
        ],
    )
    head = read_head(request.value, request.json_length)
    assert head.parameters == {
        "latency_ms": 100,
        "min_accuracy": 0.5,
        "mode": "online",
        "explain": True,
        "timeout": 2**64 - 1,
        "binary_data_output": True,
    }
    assert [(output.name, output.parameters) for output in head.outputs] == [
        ("y", None),
        ("z", OutputParameters(classification=3)),
    ]


X = {"name": "x", "datatype": "INT8", "shape": [2]}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"length >= 1 - at `\$.inputs`"),
        ({"inputs": [X], "raw_input_contents": [b"ab", b"c"]}, r"\$.raw_input_contents: there are 2 for 1 inputs"),
        ({"inputs": [X], "raw_input_contents": [b"a"]}, "takes 2 bytes as binary data, not 1"),
        (
            {"inputs": [{**X, "contents": {"int_contents": [1, 2]}}], "raw_input_contents": [b"ab"]},
            r"\$.inputs\[0\].contents: must be left out",
        ),
        ({"inputs": [X]}, r"\$.inputs\[0\].contents: shape \[2\] needs 2 elements, int_contents has 0"),
        ({"inputs": [{**X, "contents": {"int_contents": [1, 200]}}]}, "a number does not fit INT8"),
        (
            {"inputs": [{**X, "contents": {"fp32_contents": [1, 2]}}]},
            "INT8 goes into int_contents, not into fp32_contents",
        ),
        ({"inputs": [{**X, "datatype": "FP16"}]}, "FP16 has no typed contents; send it as raw_input_contents"),
        ({"inputs": [{**X, "datatype": "FP8"}]}, r"\$.inputs\[0\].datatype: unknown datatype 'FP8'"),
        ({"inputs": [{**X, "shape": [-1]}]}, r">= 0 - at `\$.inputs\[0\].shape\[0\]`"),
        ({"inputs": [{**X, "shape": [2**62]}], "raw_input_contents": [b""]}, r"`\$.inputs\[0\].shape\[0\]`"),
        (
            {"inputs": [{**X, "parameters": {"shared_memory_region": {"string_param": "r"}}}]},
            "shared memory is not supported; send the tensor itself",
        ),
        (
            {"inputs": [{**X, "shape": [0]}], "parameters": {"latency_ms": {}}},
            r"\$.parameters.latency_ms: has no value",
        ),
        (
            {"inputs": [{**X, "shape": [0]}], "parameters": {"latency_ms": {"double_param": float("nan")}}},
            r"`null` - at `\$.parameters",
        ),
    ],
)
def test_oip_request_error_names_the_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        made(**fields)


def test_oip_request_bounds_size_before_conversion() -> None:
    tensor = {"name": "x", "datatype": "INT64", "shape": [1000], "contents": {"int64_contents": [1] * 1000}}
    with pytest.raises(InvalidRequest, match=r"exceeds the limit of this gateway \(4000 bytes\)"):
        made(max_bytes=4000, inputs=[tensor])
    with pytest.raises(InvalidRequest, match="exceeds the limit of this gateway"):
        made(max_bytes=100, inputs=[{**X, "shape": [99]}], raw_input_contents=[b"a" * 99])


@pytest.mark.parametrize("content", [b"\x0a\x01\xff", b"\x2a\x02\x0a\x05", b"hello"])
def test_read_message_refuses_malformed_bytes(content: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the message is no"):
        read_message(content)


def an_end(*wanted: str) -> ModelStreamInferResponse:
    asked = {TEXT_OUTPUT: bytes_array(["a b"]), "finish_reason": bytes_array(["length"])}
    asked |= {name: np.array([count], np.int32) for name, count in (("prompt_tokens", 3), ("completion_tokens", 2))}
    result = parse_result({h.ID: "q", h.STATUS: OK}, encode_response("m", "q", asked).value)
    return ModelStreamInferResponse.FromString(streamed_end(result, *read_answers(result), wanted=wanted))


def test_streamed_end_has_wanted_values_only() -> None:
    found = an_end(TEXT_OUTPUT, "completion_tokens").infer_response
    assert [output.name for output in found.outputs] == [TEXT_OUTPUT]
    assert set(found.parameters) == {"triton_final_response", "completion_tokens"}
    everything = an_end().infer_response
    assert [output.name for output in everything.outputs] == [TEXT_OUTPUT, "finish_reason"]
    assert {"prompt_tokens", "completion_tokens"} < set(everything.parameters)


def test_with_end_asks_for_outputs_of_the_end() -> None:
    head = ModelInferRequest(model_name="m")
    assert with_end(InferMessage(head, [])).head is head
    head.outputs.add(name="finish_reason")
    names = [output.name for output in with_end(InferMessage(head, [])).head.outputs]
    assert names == ["finish_reason", "completion_tokens", "prompt_tokens", TEXT_OUTPUT]
    assert len(head.outputs) == 1
