"""Latency by length: exact where it was measured, never less for more, and 1 where nothing is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.interpolation import interpolation_error
from schemas.length import LengthLatency, LengthModel

MEASURED = (
    LengthLatency(16, 0.002),
    LengthLatency(32, 0.004),
    LengthLatency(64, 0.010, typical=True),
    LengthLatency(128, 0.030),
)


@pytest.mark.parametrize(("length", "factor"), [(16, 0.2), (32, 0.4), (48, 0.7), (64, 1.0), (128, 3.0), (256, 7.0)])
def test_measured_lengths_are_exact_and_others_lie_on_lines(length: int, factor: float) -> None:
    assert LengthModel(MEASURED).factor(length) == pytest.approx(factor)


def test_nothing_known_changes_nothing() -> None:
    for measured in ((), MEASURED[:2], MEASURED[2:3]):
        assert LengthModel(measured).factor(1000) == 1.0


def test_what_is_far_beyond_is_not_believed() -> None:
    assert LengthModel(MEASURED).factor(10**9) == 16.0


@given(st.dictionaries(st.integers(1, 512), st.floats(1e-6, 1.0), min_size=2, max_size=6), st.integers(1, 2000))
def test_longer_inputs_never_take_less(points: dict[int, float], length: int) -> None:
    measured = [LengthLatency(at, seconds, typical=at == min(points)) for at, seconds in points.items()]
    model = LengthModel(measured)
    assert 0 <= model.factor(length) <= model.factor(length + 1) * (1 + 1e-9)


def test_the_error_tells_a_line_from_a_curve() -> None:
    assert interpolation_error([(1, 2.0), (2, 3.0), (4, 5.0)]) == pytest.approx(0)
    assert interpolation_error([(1, 1.0), (2, 4.0), (4, 16.0)]) == pytest.approx(0.5)
    assert interpolation_error([(1, 1.0), (2, 4.0)]) == 0
