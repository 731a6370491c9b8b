"""Tests of classes in place of scores, in the format of Triton's classification extension."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from schemas.classification import best_classes
from schemas.errors import InvalidRequest
from schemas.tensors import BF16, Array, bf16_of, bytes_array

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
