"""Tests of requests and responses of the Open Inference Protocol."""

import json
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import Internal, InvalidRequest
from schemas.oip import WantedOutput, decode_request, decode_response, encode_request, encode_response, read_head
from schemas.rows.catalog import TensorSpec
from schemas.signature import is_plain
from schemas.tensors import BF16, Array
from tests.unit.schemas.test_tensors import arrays, same

NAMES = st.text(min_size=1, max_size=10)
PARAMETERS = st.dictionaries(
    st.text(max_size=8).filter(lambda name: name != "binary_data_output"),
    st.text(max_size=8)
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False),
    max_size=3,
)


def request(**changes: object) -> bytes:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    return json.dumps({"inputs": [tensor | changes]}).encode()


@given(
    st.booleans().flatmap(
        lambda binary: st.tuples(
            st.just(binary), st.dictionaries(NAMES, arrays(json=not binary), min_size=1, max_size=3)
        )
    ),
    PARAMETERS,
    st.text(max_size=8),
)
def test_oip_round_trip_is_exact(
    form: tuple[bool, dict[str, Array]], parameters: dict[str, Any], query_id: str
) -> None:
    binary, tensors = form
    value, length, _ = encode_request(tensors, request_id=query_id, parameters=parameters, binary=binary)
    back = decode_request(value, length)
    assert back.id == query_id
    assert {name: back.parameters[name] for name in parameters} == parameters
    assert back.binary_output == binary
    assert list(back.inputs) == list(tensors)
    assert all(same(back.inputs[name], tensors[name]) for name in tensors)
    assert read_head(value, length).batch == next((array.shape[0] for array in tensors.values() if array.ndim), 1)

    value, length, _ = encode_response("m", query_id, tensors, parameters, binary=binary)
    answer = decode_response(value, length)
    assert (answer.model_name, answer.id, answer.parameters) == ("m", query_id, parameters)
    assert all(same(answer.outputs[name], tensors[name]) for name in tensors)


@given(st.binary(max_size=200), st.none() | st.integers(-5, 210))
def test_decode_request_of_any_bytes_succeeds_or_refuses(value: bytes, length: int | None) -> None:
    with suppress(InvalidRequest):
        decode_request(value, length, (TensorSpec(name="x", datatype="UINT8", shape=(-1, 2)),))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_decode_request_of_any_json_succeeds_or_refuses(data: st.DataObject) -> None:
    """One field of a valid request is replaced by any JSON value."""
    message: dict[str, Any] = json.loads(encode_request({"x": np.ones((1, 2))}, request_id="1", binary=False).value)
    message["outputs"] = [{"name": "y", "parameters": {"binary_data": True}}]
    tensor, output = message["inputs"][0], message["outputs"][0]
    places: list[tuple[Any, Any]] = (
        [(message, key) for key in ("id", "parameters", "inputs", "outputs")]
        + [(tensor, key) for key in ("name", "shape", "datatype", "data", "parameters")]
        + [(output, "name"), (output, "parameters"), (tensor["shape"], 0), (tensor["data"], 1)]
    )
    place, key = data.draw(st.sampled_from(places))
    place[key] = data.draw(JSON)
    value = json.dumps(message).encode()
    with suppress(InvalidRequest):
        decode_request(value)


@given(st.dictionaries(NAMES, arrays(), min_size=1, max_size=2), st.data())
def test_decode_request_refuses_truncations(tensors: dict[str, Array], data: st.DataObject) -> None:
    value, length, _ = encode_request(tensors)
    cut = data.draw(st.integers(0, len(value) - 1))
    with pytest.raises(InvalidRequest):
        decode_request(value[:cut], length)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (request(shape=[2**31, 1]), r"\$\.inputs\[0\]\.shape\[0\]"),
        (request(shape=[2**31 - 1, 2**31 - 1]), r"\$\.inputs\[0\]\.data"),
        (request(shape=[1] * 17), r"\$\.inputs\[0\]\.shape"),
        (request(shape="x"), r"\$\.inputs\[0\]\.shape"),
        (request(datatype="FP8"), r"\$\.inputs\[0\]\.datatype: unknown datatype 'FP8'"),
        (request(data=[1, "a"]), r"\$\.inputs\[0\]\.data\[1\]"),
        (request(data=[1, 2, 3]), r"\$\.inputs\[0\]\.data: shape \[1, 2\] needs 2 elements, the data has 3"),
        (request(name=""), r"\$\.inputs\[0\]\.name"),
        (b'{"inputs": []}', r"\$\.inputs"),
        (b"{}", "missing required field `inputs`"),
        (b"", "the body is empty"),
        (b"{", "the body is not JSON"),
        (b'{"inputs":' + b"[" * 100_000, "array"),
        (b'{"x":' + b"[" * 100_000, "nested too deeply"),
        (b'{"inputs":[{"name":"x","shape":[1],"datatype":"INT8"}]}', "neither `data` nor"),
        (request(parameters={"binary_data_size": 8}), "announce 8 bytes of binary data, but 0 follow"),
        (request(parameters={"binary_data_size": 7}), "takes 8 bytes as binary data, not 7"),
        (
            b'{"parameters":{"binary_data_output":1},"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1]}]}',
            r"\$\.parameters\.binary_data_output",
        ),
    ],
)
def test_decode_request_errors_name_place(value: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        decode_request(value)


def test_read_head_refuses_duplicate_names() -> None:
    tensor = '{"name":"x","shape":[1],"datatype":"INT8","data":[1]}'
    with pytest.raises(InvalidRequest, match="twice"):
        read_head(f'{{"inputs":[{tensor},{tensor}]}}'.encode())


def test_decode_request_mixes_json_and_binary_inputs() -> None:
    first = {"name": "a", "shape": [2], "datatype": "INT8", "parameters": {"binary_data_size": 2}}
    second = {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["text"]}
    third = {"name": "c", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 5}}
    head = json.dumps({"inputs": [first, second, third]}).encode()
    inputs = decode_request(head + b"\x01\x02" + b"\x01\x00\x00\x00z", len(head)).inputs
    assert [array.tolist() for array in inputs.values()] == [[1, 2], [b"text"], [b"z"]]


def test_encode_response_uses_requested_form() -> None:
    outputs: dict[str, Array] = {"a": np.ones(2, np.float32), "b": np.ones(1, np.int8)}
    value, length, kind = encode_response("m", "7", outputs, wanted=[WantedOutput("b", True), WantedOutput("a")])
    assert (length, kind) == (len(value) - 1, "application/octet-stream")
    head = json.loads(value[:length])
    assert [output["name"] for output in head["outputs"]] == ["b", "a"]
    assert head["outputs"][1]["data"] == [1.0, 1.0]
    assert head["id"] == "7"
    with pytest.raises(InvalidRequest, match=r"outputs\[0\].name.*there are a, b"):
        encode_response("m", "", outputs, wanted=[WantedOutput("c")])


def test_encode_request_allows_bf16_only_in_binary() -> None:
    value, length, _ = encode_request({"x": np.ones(3, "<u2").view(BF16)}, request_id="odd")
    assert decode_request(value, length).inputs["x"].flags.aligned
    with pytest.raises(InvalidRequest, match="BF16"):
        encode_request({"x": np.ones(3, "<u2").view(BF16)}, binary=False)


@pytest.mark.parametrize(
    ("value", "datatype", "shape", "rows"),
    [
        (np.arange(4, dtype=np.float32).tobytes(), "FP32", (-1, 4), [[0, 1, 2, 3]]),
        (b"\x01\x02\x03", "INT8", (-1, -1), [[1, 2, 3]]),
        (b"abc", "BYTES", (-1,), [b"abc"]),
        (b"abc", "FP32", (-1, 4), None),
        (b"abc", "INT8", (2,), None),
        (b"abc", "BYTES", (-1, 2), None),
    ],
)
def test_raw_data_has_shape_of_signature(value: bytes, datatype: str, shape: tuple[int, ...], rows: Any) -> None:
    signature = [TensorSpec(name="x", datatype=datatype, shape=shape)]
    if rows is None:
        with pytest.raises(InvalidRequest, match="raw bytes"):
            decode_request(value, 0, signature)
        return
    back = decode_request(value, 0, signature)
    assert (back.inputs["x"].tolist(), back.binary_output) == (rows, True)
    for several in ([], 2 * signature):
        with pytest.raises(InvalidRequest, match="exactly one input"):
            decode_request(value, 0, several)


def test_decode_response_reports_invalid_response() -> None:
    with pytest.raises(Internal, match="not a v2 response"):
        decode_response(b'{"model_name": 1}')


def test_decode_request_takes_plain_text_or_image() -> None:
    signature = (TensorSpec(name="text", datatype="BYTES", shape=(-1,)),)
    assert is_plain("text/plain; charset=utf-8", signature)
    assert is_plain("image/png", signature)
    assert not is_plain("application/json", signature)
    assert not is_plain("text/plain", (TensorSpec(name="x", datatype="FP32", shape=(-1,)),))
    assert not is_plain("text/plain", signature * 2)
    request = decode_request(b"good\x00", None, signature, plain=True)
    assert (request.inputs["text"].tolist(), request.binary_output) == ([b"good\x00"], False)
    assert decode_request(b"good", 0, signature).binary_output
    wide = (TensorSpec(name="text", datatype="BYTES", shape=(-1, 2)),)
    with pytest.raises(InvalidRequest, match="4 raw bytes do not fit BYTES"):
        read_head(b"good", None, wide, plain=True)


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1, 2**70])
def test_encode_request_refuses_integer_of_more_than_64_bits(value: int) -> None:
    with pytest.raises(InvalidRequest, match=r"\$\.parameters\.seed"):
        encode_request({}, parameters={"seed": value}, binary=False)
    encode_request({}, parameters={"seed": (1 << 64) - 1, "other": -(1 << 63)}, binary=False)
