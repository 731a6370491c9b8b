"""Tests of grouping inputs by size and of padding them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.padding import (
    FACTOR,
    axis_sizes,
    cut_to,
    join_rows,
    pad_to,
    row_size,
    size_bucket,
    size_groups,
    stack_padded,
)
from schemas.signature import TensorSpec

SIZES = st.lists(st.integers(1, 600), min_size=1, max_size=40)


@given(SIZES)
def test_size_groups_bound_padding(sizes: list[int]) -> None:
    groups = size_groups(sizes)
    assert sorted(index for group in groups for index in group) == list(range(len(sizes)))
    for group in groups:
        longest, shortest = max(sizes[i] for i in group), min(sizes[i] for i in group)
        assert longest <= max(FACTOR * shortest, 16)


@given(SIZES)
def test_size_groups_with_factor_one_separate_sizes(sizes: list[int]) -> None:
    groups = size_groups(sizes, 1.0)
    assert all(len({sizes[i] for i in group}) == 1 for group in groups)
    assert len(groups) == len(set(sizes))


@given(st.integers(1, 10_000), st.integers(1, 10_000))
def test_size_bucket_is_monotonic_and_bounded(one: int, other: int) -> None:
    small, large = sorted((one, other))
    assert size_bucket(small) <= size_bucket(large)
    if size_bucket(small) == size_bucket(large):
        assert large <= max(FACTOR * small, 16)


def test_stack_padded_pads_at_end() -> None:
    rows = [
        {"ids": np.array([[5, 6, 7]]), "mask": np.array([[1, 1, 1]])},
        {"ids": np.array([[8]]), "mask": np.array([[1]])},
    ]
    batch = stack_padded(rows, {"ids": 9})
    assert batch["ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_stack_padded_keeps_rows_of_equal_shape() -> None:
    rows = [{"x": np.ones((2, 3), np.float32)}, {"x": np.zeros((1, 3), np.float32)}]
    assert stack_padded(rows)["x"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert row_size(rows[0]) == 3


def test_pad_to_pads_only_given_axes() -> None:
    padded = pad_to({"ids": np.array([[3, 4]]), "other": np.array([[1, 2]])}, 2, {"ids": [1]}, {"ids": 7})
    assert padded["ids"].tolist() == [[3, 4, 7, 7]]
    assert padded["other"].tolist() == [[1, 2]]


TOKENS = TensorSpec(name="ids", datatype="INT64", shape=(-1, -1), axes=("", "tokens"))
HIDDEN = TensorSpec(name="hidden", datatype="FP32", shape=(-1, 2, -1), axes=("", "", "tokens"))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_join_rows_then_cut_to_restores_each_part(lengths: list[int]) -> None:
    parts = [{"hidden": np.full((2, 2, length), length)} for length in lengths]
    joined = join_rows(parts, [HIDDEN])
    for index, length in enumerate(lengths):
        rows = {"hidden": joined["hidden"][2 * index : 2 * index + 2]}
        sizes = axis_sizes([TOKENS], {"ids": np.ones((2, length))})
        assert sizes == {"tokens": length}
        assert np.array_equal(cut_to(rows, [HIDDEN], sizes)["hidden"], parts[index]["hidden"])
        assert not rows["hidden"][:, :, length:].any()


def test_join_rows_pads_texts_and_refuses_other_axes() -> None:
    texts = [{"hidden": np.full((1, 2, length), b"x", object)} for length in (1, 2)]
    assert join_rows(texts, [HIDDEN])["hidden"].tolist() == [[[b"x", b""]] * 2, [[b"x", b"x"]] * 2]
    with pytest.raises(ValueError, match=r"shape of output 'hidden' depends on the input \(\[2, 1\] and \[3, 1\]\)"):
        join_rows([{"hidden": np.ones((1, width, 1))} for width in (2, 3)], [HIDDEN])


def test_cut_to_keeps_longest_of_axes_with_one_name() -> None:
    """Unnamed axes of several inputs get one name, though their sizes may differ."""
    other = TensorSpec(name="other", datatype="INT64", shape=(-1, -1), axes=("", "tokens"))
    row = {"ids": np.ones((1, 5)), "other": np.ones((1, 3))}
    assert axis_sizes([TOKENS, other], row) == axis_sizes([other, TOKENS], row) == {"tokens": 5}
