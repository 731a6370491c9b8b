"""Tests of casting inputs to the datatype of a task."""

import numpy as np
import pytest

from schemas.casts import cast_inputs
from schemas.errors import InvalidRequest
from schemas.rows.tensor_spec import TensorSpec
from schemas.tensors import BF16, Array, float32_of


def cast(datatype: str, values: Array) -> Array | None:
    """Return the cast input, or None if it needs no cast."""
    return cast_inputs([TensorSpec(name="x", datatype=datatype, shape=(-1,))], {"x": values}).get("x")


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("FP32", np.array([0.1, np.nan, -np.inf]), np.array([0.1, np.nan, -np.inf], np.float32)),
        ("FP16", np.array([0.1, 65504.0]), np.array([0.1, 65504.0], np.float16)),
        ("FP64", np.array([0.5], np.float16), np.array([0.5])),
        ("INT32", np.array([-(2**31), 2**31 - 1]), np.array([-(2**31), 2**31 - 1], np.int32)),
        ("INT64", np.array([2**63 - 1], np.uint64), np.array([2**63 - 1])),
        ("FP32", np.array([2**24, -(2**40)]), np.array([2**24, -(2**40)], np.float32)),
    ],
)
def test_cast_inputs_casts_without_loss(datatype: str, values: Array, expected: Array) -> None:
    found = cast(datatype, values)
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_cast_inputs_keeps_matching_inputs() -> None:
    assert cast("FP32", np.zeros(2, np.float32)) is None
    assert cast("BYTES", np.array([b"a"], object)) is None
    assert cast_inputs([TensorSpec(name="y", datatype="FP32", shape=(-1,))], {"x": np.zeros(2)}) == {}


def test_cast_inputs_casts_from_and_to_bf16() -> None:
    found = cast("BF16", np.array([1.5, -2.0]))
    assert found is not None
    assert found.dtype == BF16
    assert float32_of(found).tolist() == [1.5, -2.0]
    back = cast("FP64", found)
    assert back is not None
    assert back.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("datatype", "values", "said"),
    [
        ("FP32", np.array([1.0, 1e300]), r"FP64 is cast if that is lossless, but 1e\+300 does not fit"),
        ("FP16", np.array([70000.0]), "70000.0 does not fit"),
        ("BF16", np.array([3.4e38], np.float32), "does not fit"),
        ("INT32", np.array([1, 2**31]), "INT64 is cast if that is lossless, but 2147483648 does not fit"),
        ("UINT64", np.array([-1]), "-1 does not fit"),
        ("INT8", np.array([200], np.uint8), "200 does not fit"),
        ("FP32", np.array([2**24 + 1]), "16777217 does not fit"),
        ("FP32", np.array([2**63 - 1]), "9223372036854775807 does not fit"),
        ("FP16", np.array([70000]), "70000 does not fit"),
        ("FP16", np.array([-(2**63)]), "-9223372036854775808 does not fit"),
        ("FP16", np.array([-(2**31)], np.int32), "-2147483648 does not fit"),
        ("INT64", np.array([1.0]), "must be INT64, not FP64"),
        ("BOOL", np.array([1]), "must be BOOL, not INT64"),
        ("FP32", np.array([True]), "must be FP32, not BOOL"),
        ("BYTES", np.array([1]), "must be BYTES, not INT64"),
        ("FP32", np.array([b"1"], object), "must be FP32, not BYTES"),
    ],
)
def test_cast_inputs_refuses_lossy_casts(datatype: str, values: Array, said: str) -> None:
    with pytest.raises(InvalidRequest, match=f"input x must be {datatype}.*{said}" if "cast" in said else said):
        cast(datatype, values)
