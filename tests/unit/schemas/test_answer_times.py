"""Tests of histograms of answer times: quantiles are within the resolution of the buckets, and histograms add up."""

from collections import Counter
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.answer_times import quantile_s, time_bucket

TIMES = st.lists(st.floats(min_value=0.001, max_value=5e3), min_size=1, max_size=200)


@given(TIMES, st.sampled_from((0.5, 0.9, 0.99, 1.0)))
def test_quantile_is_within_its_resolution(times_s: list[float], share: float) -> None:
    exact = next(s for place, s in enumerate(sorted(times_s), 1) if place >= share * len(times_s))
    assert quantile_s(Counter(map(time_bucket, times_s)), share) == pytest.approx(exact, rel=0.0451)


@given(TIMES, TIMES)
def test_buckets_of_several_workers_add_up(one: list[float], other: list[float]) -> None:
    added = Counter(map(time_bucket, one)) + Counter(map(time_bucket, other))
    assert quantile_s(added, 0.99) == quantile_s(Counter(map(time_bucket, one + other)), 0.99)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(-3.0, 0), (0.0, 0), (0.0009, 0), (0.001, 1), (0.0012, 3), (0.002, 9), (1e300, 184), (inf, 184), (nan, 184)],
)
def test_time_bucket_limits_extreme_values(seconds: float, bucket: int) -> None:
    assert time_bucket(seconds) == bucket


def test_quantile_of_no_answers_is_unknown() -> None:
    assert quantile_s({}, 0.5) is None
    assert quantile_s({7: 0}, 0.5) is None
