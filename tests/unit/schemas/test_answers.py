"""Tests of what answers tell: histograms of their times, lengths in tokens, and the pace of offline work."""

import random
from collections import Counter
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answer_lengths import BUCKETS, AnswerLengths, LengthCount, LengthCounts, LengthMeter, bucket_of, tokens_of
from schemas.answer_times import quantile_s, time_bucket
from schemas.offline_share import LEAST, SCARCE, SPARE, offline_pause_s, offline_share


@given(
    st.lists(st.floats(min_value=0.001, max_value=5e3), min_size=1, max_size=200),
    st.sampled_from((0.5, 0.9, 0.99, 1.0)),
)
def test_quantile_of_times_is_within_its_resolution(times_s: list[float], share: float) -> None:
    exact = next(s for place, s in enumerate(sorted(times_s), 1) if place >= share * len(times_s))
    assert quantile_s(Counter(map(time_bucket, times_s)), share) == pytest.approx(exact, rel=0.0451)


def test_quantile_of_no_times_is_unknown() -> None:
    assert quantile_s({}, 0.5) is None
    assert quantile_s({7: 0}, 0.5) is None


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-3.0, 0), (0.0, 0), (0.0009, 0), (0.001, 1), (0.0012, 3), (0.002, 9), (1e300, 184), (inf, 184), (nan, 184)],
)
def test_time_bucket_limits_extreme_values(seconds: float, bucket: int) -> None:
    assert time_bucket(seconds) == bucket


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


def test_lengths_begin_with_profile_follow_answers_and_forget() -> None:
    assert lengths_of() == AnswerLengths(100, 100, 100.0)
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


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_offline_share_falls_with_cpu_use_but_never_to_zero(one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert 1.0 >= offline_share(less) >= offline_share(more) >= LEAST > 0.0
    assert less > SPARE or offline_share(less) == 1.0
    assert more < SCARCE or offline_share(more) == LEAST


def test_offline_pause_grows_as_the_share_falls() -> None:
    usual_s = offline_pause_s(32, 0.01, 1.0)
    assert usual_s == pytest.approx((0.01 + 0.032) / 0.5)
    assert offline_pause_s(32, 0.01, LEAST) == pytest.approx(usual_s / LEAST)
