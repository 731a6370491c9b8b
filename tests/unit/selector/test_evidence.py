"""Tests of `EvidenceRoom`: a number of forbidden records is kept at once, and then one per interval."""

from selector.evidence import EACH_S, MOST_AT_ONCE, EvidenceRoom


def test_forbidden_sample_limits_a_flood() -> None:
    room = EvidenceRoom(0.0)
    assert sum(room.take(1.0) for _ in range(10 * MOST_AT_ONCE)) == MOST_AT_ONCE
    day_s = 86_400
    assert sum(room.take(1.0 + second) for second in range(day_s)) <= day_s / EACH_S


def test_forbidden_sample_is_bounded_after_idle_time() -> None:
    room = EvidenceRoom(0.0)
    assert sum(room.take(1e9) for _ in range(2 * MOST_AT_ONCE)) == MOST_AT_ONCE
