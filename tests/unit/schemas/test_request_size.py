"""Tests of the upper bound for the number of inputs in a request, compared with encoded requests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import headers as h
from schemas.oip import encode_request
from schemas.request_size import most_inputs
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import DTYPES, bytes_array

IMAGE = TensorSpec(name="image", datatype="FP32", shape=(-1, 3, 8, 8))
TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
TOKENS = TensorSpec(name="tokens", datatype="INT64", shape=(-1, -1))


@given(
    spec=st.sampled_from([IMAGE, TEXT, TOKENS]),
    rows=st.integers(1, 300),
    datatype=st.sampled_from(["UINT8", "FP32", "INT64"]),
    binary=st.booleans(),
)
def test_most_inputs_is_upper_bound_for_encoded_requests(
    spec: TensorSpec, rows: int, datatype: str, binary: bool
) -> None:
    shape = (rows, *(max(length, 1) for length in spec.shape[1:]))
    array = bytes_array([b""] * rows) if spec is TEXT else np.zeros(shape, DTYPES[datatype])
    encoded = encode_request({spec.name: array}, binary=binary)
    assert most_inputs((spec,), {}, len(encoded.value)) >= rows


def test_most_inputs_follows_record_size() -> None:
    assert most_inputs((IMAGE,), {}, 192 * 7 + 191) == 7
    assert most_inputs((IMAGE, TEXT), {}, 195 * 7) == 7
    assert most_inputs((TEXT,), {}, 90) == 30
    assert most_inputs((TOKENS,), {}, 0) == 1
    assert most_inputs((), {}, 5) == 5


@pytest.mark.parametrize("content_type", ["text/plain", "image/png"])
def test_most_inputs_of_plain_file_is_one(content_type: str) -> None:
    assert most_inputs((TEXT,), {h.CONTENT_TYPE: content_type}, 1_000_000) == 1
