"""Tests of casts of inputs, and of classes of scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from schemas.errors import InvalidRequest
from schemas.oip import InferRequest
from schemas.query_names import Parameter
from schemas.signature import TensorSpec
from schemas.tensors import BF16, DTYPES, Array, bf16_of, bytes_array, float32_of
from workers.conversion import best_classes, cast_inputs, parameter_values


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


def value_of(datatype: str, named: Parameter | None = None, tensor: Array | None = None) -> Array:
    """Return the two rows of a parameter that a query names, or gives as a tensor."""
    spec = TensorSpec(name="p", datatype=datatype, shape=(-1,), parameter=True)
    inputs = {"x": np.zeros((2, 4))} | ({} if tensor is None else {"p": tensor})
    request = InferRequest("q", {} if named is None else {"p": named}, inputs, (), False)
    found = parameter_values([TensorSpec(name="x", datatype="FP64", shape=(-1, 4)), spec], request)
    return (found | cast_inputs([spec], found))["p"]


@pytest.mark.parametrize(
    ("datatype", "named", "expected"),
    [
        ("INT64", 8000, 8000),
        ("INT64", -(2**63), -(2**63)),
        ("INT64", True, 1),
        ("UINT64", 2**64 - 1, 2**64 - 1),
        ("FP32", 0.5, 0.5),
        ("FP32", 3, 3.0),
        ("FP32", True, 1.0),
        ("BOOL", True, True),
    ],
)
def test_parameter_values_reads_named_numbers(datatype: str, named: Parameter, expected: float) -> None:
    found = value_of(datatype, named)
    assert found.dtype == DTYPES[datatype]
    assert found.tolist() == [expected, expected]


@pytest.mark.parametrize(
    ("datatype", "tensor"),
    [
        ("BOOL", np.array([True])),
        ("INT64", np.array(7)),
        ("FP64", np.array([[0.5]])),
        ("FP16", np.array([0.5, 0.5], np.float16)),
        ("BF16", bf16_of(np.array([1.5], np.float32))),
        ("BYTES", bytes_array(["a"])),
    ],
)
def test_parameter_values_reads_tensors_of_all_types(datatype: str, tensor: Array) -> None:
    found = value_of(datatype, tensor=tensor)
    assert found.dtype == DTYPES[datatype]
    assert found.tolist() == tensor.reshape(-1)[:1].tolist() * 2


@pytest.mark.parametrize(
    ("datatype", "named", "said"),
    [
        ("INT64", 2**63, "9223372036854775808 does not fit"),
        ("FP16", 2**63, "does not fit"),
        ("INT64", 2**64, "must be INT64"),
        ("FP32", -(2**70), "must be FP32"),
        ("BOOL", 1, "must be BOOL, not INT64"),
        ("INT64", "1", "parameter p must be a number"),
    ],
)
def test_parameter_values_refuses_other_values(datatype: str, named: Parameter, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        value_of(datatype, named)


SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.5]], np.float32)


def texts(scores: Array, count: int, names: tuple[str, ...] = ()) -> list[list[str]]:
    return [[item.decode() for item in row] for row in best_classes(scores, count, names, "$").tolist()]


def test_best_classes_are_ordered_and_named() -> None:
    assert texts(SCORES, 2, ("a", "b", "c")) == [["0.700000:1:b", "0.200000:2:c"], ["0.500000:0:a", "0.500000:2:c"]]


def test_best_classes_ignores_names_of_other_count() -> None:
    assert texts(SCORES[:1], 1, ("a", "b")) == [["0.700000:1"]]


def test_best_classes_returns_at_most_all_scores() -> None:
    assert [len(row) for row in texts(SCORES, 1000)] == [3, 3]


@pytest.mark.parametrize("kind", ["u1", "i8", "<f8", "<f2"])
def test_best_classes_orders_all_numeric_types(kind: str) -> None:
    lowest = np.iinfo(kind).min if kind[0] in "ui" else -1
    scores = np.array([[1, lowest, 2]], kind)
    assert [text.split(":")[1] for text in texts(scores, 3)[0]] == ["2", "0", "1"]


def test_best_classes_puts_nan_last() -> None:
    assert texts(np.array([[np.nan, 1.0, np.inf]]), 3) == [["inf:2", "1.000000:1", "nan:0"]]


def test_best_classes_flattens_inner_dimensions() -> None:
    assert texts(np.array([[[1, 2], [4, 3]]]), 2) == [["4:2", "3:3"]]
    assert best_classes(np.zeros((2, 0)), 3, (), "$").shape == (2, 0)
    assert texts(np.array([3]), 3) == [["3:0"]]


def test_best_classes_reads_bf16() -> None:
    assert texts(bf16_of(np.array([[1.0, 2.0]], np.float32)).view(BF16), 1) == [["2.000000:1"]]


@pytest.mark.parametrize("outputs", [bytes_array(["a"]), np.array([True])])
def test_best_classes_refuses_bytes_and_bools(outputs: Array) -> None:
    with pytest.raises(InvalidRequest, match=r"^\$.outputs\[0\]: .* cannot be scores"):
        best_classes(outputs, 1, (), "$.outputs[0]")


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2)), st.integers(1, 5))
def test_best_classes_have_highest_scores(scores: Array, count: int) -> None:
    for row, found in zip(scores, texts(scores, count), strict=True):
        chosen = [int(text.split(":")[1]) for text in found]
        assert len(set(chosen)) == min(count, len(row))
        left_out = np.nan_to_num(np.delete(row, chosen), nan=-np.inf)
        if left_out.size:
            assert np.nan_to_num(row[chosen], nan=-np.inf).min() >= left_out.max()
