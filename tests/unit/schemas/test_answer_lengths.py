"""Tests of the lengths of answers: buckets, quantiles of ended and cut answers, and sums of counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answer_lengths import BUCKETS, AnswerLengths, LengthCount, LengthCounts, LengthMeter, bucket_of, tokens_of


def lengths_of(*made: tuple[int, bool], typical: int = 100) -> AnswerLengths:
    """Return the lengths for answers of these tokens; true: it was cut."""
    meter = LengthMeter()
    for tokens, cut in made:
        meter.add(tokens, cut=cut)
    return meter.lengths(typical)


@given(st.integers(1, 150_000), st.integers(0, 5_000))
def test_bucket_holds_lengths_within_a_tenth(tokens: int, more: int) -> None:
    assert tokens_of(bucket_of(tokens)) == pytest.approx(tokens, rel=0.125)
    assert bucket_of(tokens) <= bucket_of(tokens + more) < BUCKETS


def test_lengths_are_those_of_profile_without_answers() -> None:
    assert lengths_of() == AnswerLengths(100, 100, 100.0)


def test_lengths_follow_some_answers_and_then_forget() -> None:
    assert lengths_of((5, False)).median == tokens_of(bucket_of(100))
    assert lengths_of(*[(5, False)] * 3).median == 5
    assert lengths_of(*[(5, False)] * 1000, *[(7, False)] * 250).median == 7


@pytest.mark.parametrize("most", [None, 40])
def test_quantiles_are_those_of_uncut_answers(most: int | None) -> None:
    """Answers of 1 to 100 tokens; half of the callers cut theirs at `most`."""
    draw = random.Random(7)
    made = list[tuple[int, bool]]()
    for number in range(2000):
        tokens = draw.randint(1, 100)
        is_cut = most is not None and number % 2 == 0 and tokens > most
        made.append((most or 0, True) if is_cut else (tokens, False))
    found = lengths_of(*made)
    assert found.median == pytest.approx(50, rel=0.2)
    assert found.p99 == pytest.approx(100, rel=0.1)


def test_answers_that_all_are_cut_leave_length_to_profile() -> None:
    found = lengths_of(*[(16, True)] * 500)
    assert found.median == tokens_of(bucket_of(100))
    assert found.expected(16) == found.expected(16, p99=True) == 16
    assert found.mean == pytest.approx(17, rel=0.1)
    assert lengths_of(*[(300, True)] * 500).median == tokens_of(bucket_of(300))


@given(st.lists(st.tuples(st.integers(1, 3000), st.booleans()), max_size=40), st.integers(1, 3000))
def test_lengths_are_ordered_and_positive(made: list[tuple[int, bool]], typical: int) -> None:
    found = lengths_of(*made, typical=typical)
    assert 1 <= found.median <= found.p99
    assert found.mean > 0
    assert 1 <= found.expected(3) <= 3


def test_counts_add_up_and_can_be_removed() -> None:
    one, other = (LengthCount(3, 5, 1),), (LengthCount(3, 1, 0), LengthCount(9, 0, 2), LengthCount(BUCKETS, 9, 9))
    counts = LengthCounts()
    counts.add(one)
    alone = counts.lengths(100)
    counts.add(other)
    assert counts.answers == 9
    counts.add(other, -1)
    assert counts.lengths(100) == alone


def test_other_variants_count_at_most_some_answers() -> None:
    own, task = LengthCounts(), LengthCounts()
    task.add([LengthCount(bucket_of(200), 500, 0)])
    assert own.lengths(100, task).median == tokens_of(bucket_of(200))
    own.add([LengthCount(4, 30, 0)])
    task.add([LengthCount(4, 30, 0)])
    assert own.lengths(100, task).median == 5
