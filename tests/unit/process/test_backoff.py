"""Tests of exponential back-off, also by key."""

from process.backoff import Backoff, KeyedBackoff

MINUTE = Backoff(first_s=1.0, longest_s=60.0)


def test_backoff_doubles_up_to_the_longest_pause() -> None:
    assert [MINUTE.pause_s(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert MINUTE.pause_s(10**6) == 60
    assert MINUTE.pause_s(2, least_s=5.0) == 5
    assert MINUTE.pause_s(4, least_s=5.0) == 8


def test_backoff_jitter_varies_the_pause_within_its_share() -> None:
    pauses = {Backoff(first_s=8.0, longest_s=8.0, jitter=0.5).pause_s(1) for _ in range(100)}
    assert len(pauses) > 1
    assert min(pauses) >= 4
    assert max(pauses) <= 12


def test_keyed_backoff_grows_per_key_until_reset() -> None:
    backoff = KeyedBackoff(MINUTE, most=10)
    assert backoff.is_due("a", 0.0)
    backoff.failed("a", 0.0)
    assert not backoff.is_due("a", 0.9)
    assert backoff.is_due("a", 1.0)
    assert backoff.is_due("b", 0.0)
    for _ in range(10):
        backoff.failed("a", 100.0)
    assert not backoff.is_due("a", 159.9)
    assert backoff.is_due("a", 160.0)
    backoff.reset("a")
    assert backoff.is_due("a", 100.0)
    backoff.failed("a", 200.0, least_s=5.0)
    assert not backoff.is_due("a", 204.9)
    assert backoff.is_due("a", 205.0)


def test_keyed_backoff_forgets_the_oldest_failure() -> None:
    backoff = KeyedBackoff(MINUTE, most=3)
    for key in ("a", "b", "a", "c", "d"):
        backoff.failed(key, 0.0)
    assert len(backoff) == 3
    assert [key for key in "abcd" if not backoff.is_due(key, 0.0)] == ["a", "c", "d"]
