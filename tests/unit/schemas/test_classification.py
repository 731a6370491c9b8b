"""Classes in the place of scores, as Triton's clients read them."""

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


def test_the_best_come_first_with_their_names() -> None:
    assert texts(SCORES, 2, ("a", "b", "c")) == [["0.700000:1:b", "0.200000:2:c"], ["0.500000:0:a", "0.500000:2:c"]]


def test_names_that_are_not_those_of_the_scores_are_left_out() -> None:
    assert texts(SCORES[:1], 1, ("a", "b")) == [["0.700000:1"]]


def test_there_are_no_more_than_scores() -> None:
    assert [len(row) for row in texts(SCORES, 1000)] == [3, 3]


@pytest.mark.parametrize("kind", ["u1", "i8", "<f8", "<f2"])
def test_all_numbers_have_an_order(kind: str) -> None:
    lowest = np.iinfo(kind).min if kind[0] in "ui" else -1
    scores = np.array([[1, lowest, 2]], kind)
    assert [text.split(":")[1] for text in texts(scores, 3)[0]] == ["2", "0", "1"]


def test_a_score_that_is_no_number_is_the_last() -> None:
    assert texts(np.array([[np.nan, 1.0, np.inf]]), 3) == [["inf:2", "1.000000:1", "nan:0"]]


def test_what_lies_behind_the_first_dimension_is_one_row() -> None:
    assert texts(np.array([[[1, 2], [4, 3]]]), 2) == [["4:2", "3:3"]]
    assert best_classes(np.zeros((2, 0)), 3, (), "$").shape == (2, 0)
    assert texts(np.array([3]), 3) == [["3:0"]]


def test_bf16_has_scores() -> None:
    assert texts(bf16_of(np.array([[1.0, 2.0]], np.float32)).view(BF16), 1) == [["2.000000:1"]]


@pytest.mark.parametrize("outputs", [bytes_array(["a"]), np.array([True])])
def test_where_there_are_no_scores_there_are_no_classes(outputs: Array) -> None:
    with pytest.raises(InvalidRequest, match=r"^\$.outputs\[0\]: .* holds no scores"):
        best_classes(outputs, 1, (), "$.outputs[0]")


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2)), st.integers(1, 5))
def test_they_are_the_highest_scores(scores: Array, count: int) -> None:
    for row, found in zip(scores, texts(scores, count), strict=True):
        chosen = [int(text.split(":")[1]) for text in found]
        assert len(set(chosen)) == min(count, len(row))
        left_out = np.nan_to_num(np.delete(row, chosen), nan=-np.inf)
        if left_out.size:
            assert np.nan_to_num(row[chosen], nan=-np.inf).min() >= left_out.max()
