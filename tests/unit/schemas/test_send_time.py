"""Tests of the choice between the claimed send time and the append time."""

import pytest

from schemas.send_time import ON_THE_WAY_MS, ROUNDING_MS, believed_ms

T = 1_700_000_000_000.0


@pytest.mark.parametrize(
    ("before_ms", "believed"),
    [
        (0.4, True),
        (ON_THE_WAY_MS, True),
        (-ROUNDING_MS, True),
        (-ROUNDING_MS - 0.5, False),
        (ON_THE_WAY_MS + 0.5, False),
    ],
)
def test_believed_ms_accepts_send_time_shortly_before_append(before_ms: float, believed: bool) -> None:
    said = T - before_ms
    assert believed_ms(said, T) == (said if believed else T)


@pytest.mark.parametrize("wrong_ms", [-3600e3, -5000.0, 5000.0, 3600e3])
def test_believed_ms_ignores_wrong_clock(wrong_ms: float) -> None:
    assert believed_ms(T + wrong_ms, T) == T
