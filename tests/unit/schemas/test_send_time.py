"""Which senders are believed about the time."""

import pytest

from schemas.send_time import ON_THE_WAY_MS, believed_ms

T = 1_700_000_000_000.0


@pytest.mark.parametrize(
    ("before_ms", "believed"), [(0.4, True), (80, True), (-0.9, True), (-1.5, False), (101, False)]
)
def test_a_sender_is_believed_if_the_broker_appended_the_record_soon_after(before_ms: float, believed: bool) -> None:
    said = T - before_ms
    assert believed_ms(said, T) == (said if believed else T)
    assert ON_THE_WAY_MS < 101


@pytest.mark.parametrize("wrong_ms", [-3600e3, -5000.0, 5000.0, 3600e3])
def test_a_wrong_clock_makes_no_record_older_or_younger(wrong_ms: float) -> None:
    assert believed_ms(T + wrong_ms, T) == T
