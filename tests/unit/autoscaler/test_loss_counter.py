"""Tests of `LossCounter`: each record that was deleted before the group finished it counts once."""

from datetime import UTC, datetime
from math import nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.record.loss_counter import LossCounter, accounted_in
from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import GroupHealth, LagSample

PARTITION = GroupPartition("g", "t", 0)


def a_reading(begin: int, committed: int, end: int) -> LagObservation:
    """Return a reading as the lag reader makes it."""
    lost = max(begin - committed, 0) if committed >= 0 else 0
    lag = end - max(begin, committed)
    ends, commits, lags, losses = (np.array([value], np.int64) for value in (end, committed, lag, lost))
    return LagObservation(1.0, (PARTITION,), ends, commits, lags, np.array([nan]), losses)


def count(*readings: tuple[int, int, int]) -> list[int]:
    counter = LossCounter((PARTITION,), {})
    return [int(counter.count(a_reading(*reading))[0]) for reading in readings]


def test_loss_counter_counts_growth_of_a_gap() -> None:
    assert count((0, 5, 9), (7, 5, 9), (7, 5, 9), (9, 5, 9), (9, 9, 12)) == [0, 2, 0, 2, 0]


def test_loss_counter_ignores_rewound_offsets() -> None:
    assert count((0, 8, 9), (8, 3, 9), (9, 3, 9)) == [0, 0, 1]


def test_loss_counter_ignores_new_groups_and_topics() -> None:
    assert count((4, -1, 9), (4, -2, 9)) == [0, 0]
    assert count((8, 8, 9), (0, 2, 3), (3, 2, 3)) == [0, 0, 1]


def test_loss_counter_resumes_without_counting_again() -> None:
    first = LossCounter((PARTITION,), {})
    assert first.count(a_reading(7, 5, 9)).tolist() == [2]
    assert LossCounter((PARTITION,), first.accounted).count(a_reading(7, 5, 9)).tolist() == [0]
    written = LagSample(
        at=datetime.now(UTC), consumer_group="g", topic="t", partition=0, end_offset=9, committed=5, lag=2, lag_s=1.0,
        health=GroupHealth.LOST,
    )  # fmt: skip
    assert LossCounter((PARTITION,), accounted_in([written])).count(a_reading(7, 5, 9)).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30))
def test_loss_counter_sum_equals_deleted_records(steps: list[tuple[int, int, bool]]) -> None:
    begin = committed = mark = deleted = 0
    counter, counted = LossCounter((PARTITION,), {}), 0
    for commits, deletes, rewinds in steps:
        committed = 0 if rewinds else max(committed, begin) + commits
        mark = max(mark, committed)
        counted += int(counter.count(a_reading(begin, committed, 1000))[0])
        begin += deletes
        deleted += max(begin - max(mark, begin - deletes), 0)
        mark = max(mark, begin)
        counted += int(counter.count(a_reading(begin, committed, 1000))[0])
    assert counted == deleted
