"""Tests of `OffsetHistory`: the times of records, from the ends of partitions at past readings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.lag.timestamps import READINGS, UNSEEN, OffsetHistory


def history_of(*ends: int, interval_s: float = 1.0) -> OffsetHistory:
    history = OffsetHistory(1)
    for number, end in enumerate(ends):
        history.add(100.0 + number * interval_s, np.array([end], np.int64))
    return history


def written(history: OffsetHistory, offset: int, column: int = 0) -> float:
    return float(history.written_s(np.array([column]), np.array([offset], np.int64))[0])


@pytest.mark.parametrize(
    ("ends", "offset", "at_s"),
    [
        ((5, 7), 5, 100.25),  # the first of two in a second
        ((5, 7), 6, 100.75),
        ((5, 5, 5, 6, 6, 6), 5, 102.5),  # between the last reading without it and the first with it
        ((0, 1, 2, 3), 2, 102.5),
        ((5, UNSEEN, 7), 6, 101.75),  # no record is assumed to be written while the end was unknown
        ((UNSEEN, 5, 7), 5, 101.25),
        ((50, 60, 0, 10), 0, 102.05),  # the topic was recreated
    ],
)
def test_offset_history_interpolates_between_readings(ends: tuple[int, ...], offset: int, at_s: float) -> None:
    assert written(history_of(*ends), offset) == pytest.approx(at_s)


@pytest.mark.parametrize(("ends", "offset"), [((), 3), ((5,), 3), ((5, 7), 4), ((UNSEEN, 7), 5), ((50, 60, 0, 9), 55)])
def test_offset_history_is_unknown_before_first_reading(ends: tuple[int, ...], offset: int) -> None:
    assert math.isnan(written(history_of(*ends), offset))


@given(st.lists(st.integers(0, 30), min_size=READINGS, max_size=5 * READINGS), st.data())
def test_offset_history_error_is_in_proportion_to_age(steps: list[int], data: st.DataObject) -> None:
    ends = np.cumsum([0, *steps])
    history = history_of(*ends.tolist())
    end = int(ends[-1])
    offset = data.draw(st.integers(0, max(end - 1, 0)))
    if offset >= end:
        return
    true_s = 100.0 + float(np.searchsorted(ends, offset, side="right")) - 0.5
    age_s = 100.0 + len(ends) - 1 - true_s
    assert abs(written(history, offset) - true_s) <= 0.5 + (age_s if age_s > READINGS / 2 - 1 else 0)


def test_offset_history_remaps_columns() -> None:
    history = OffsetHistory(2)
    for at_s, ends in ((0.0, [1, 10]), (1.0, [2, 30])):
        history.add(at_s, np.array(ends, np.int64))
    remapped = history.remapped(3, np.array([2]), np.array([1]))
    assert written(remapped, 20, column=2) == pytest.approx(0.525)
    assert math.isnan(written(remapped, 1, column=0))
    remapped.add(2.0, np.array([4, 0, 40], np.int64))
    remapped.add(3.0, np.array([6, 0, 40], np.int64))
    assert written(remapped, 4, column=0) == pytest.approx(2.25)
