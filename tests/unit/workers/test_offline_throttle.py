"""Tests of the pace of offline queries: slots stay busy, and online queries keep capacity."""

from hypothesis import given
from hypothesis import strategies as st

from workers.serving.offline_throttle import OfflineThrottle, QueuedInputs

INPUT_S = 0.0001
ENOUGH = 64
NOW = 1000.0


def room(
    pace: OfflineThrottle, *, now: float = NOW, online: bool = False, queued_online: int = 0, queued: int = 0
) -> int:
    return pace.room(QueuedInputs(queued_online, queued), ENOUGH, online=online, now_s=now)


def test_offline_pace_fills_slots() -> None:
    assert room(OfflineThrottle()) == ENOUGH + 1
    assert room(OfflineThrottle(), queued=ENOUGH) == 1, "the next one is read while these are computed"
    assert room(OfflineThrottle(), queued=ENOUGH + 1) == 0


def test_offline_pace_takes_none_while_online_waits() -> None:
    assert room(OfflineThrottle(), queued_online=1) == 0
    assert room(OfflineThrottle(), queued_online=1, online=True) == 0
    assert OfflineThrottle().look_again_s(NOW) is None, "the batch that takes it says when"


@given(st.integers(1, 100), st.floats(0.0, 0.01))
def test_offline_pace_leaves_half_a_core_to_online(inputs: int, input_s: float) -> None:
    pace, now, busy_s = OfflineThrottle(), NOW, 0.0
    while now < NOW + 10:
        if queries := room(pace, now=now, online=True):
            assert queries <= 4
            pace.took(queries, queries * inputs, input_s, online=True, now_s=now)
            busy_s += queries * (inputs * input_s + 0.001)
        again_s = pace.look_again_s(now)
        now += again_s or 0.001
    longest_s = 4 * (100 * 0.01 + 0.001)
    assert 0.4 * (now - NOW) - longest_s <= busy_s <= 0.5 * (now - NOW) + longest_s


def test_offline_pace_ends_with_online_queries() -> None:
    pace = OfflineThrottle()
    pace.took(4, 4000, INPUT_S, online=True, now_s=NOW)
    assert room(pace, now=NOW + 0.01, online=True) == 0
    again_s = pace.look_again_s(NOW)
    assert again_s is not None
    assert again_s <= 0.1, "or the end of the online queries would not be noticed"
    assert room(pace, now=NOW + 0.01) > 0


def test_offline_pace_uses_mean_inputs_of_recent_queries() -> None:
    pace = OfflineThrottle()
    for _ in range(100):
        pace.took(1, 32, INPUT_S, online=False, now_s=NOW)
    assert room(pace) in (3, 4)
    assert room(pace, queued=ENOUGH) == 1
    assert room(pace, queued=ENOUGH + 32) == 0


def test_offline_pace_slows_down_with_its_share() -> None:
    usual, slow = OfflineThrottle(), OfflineThrottle()
    usual.took(4, 4, INPUT_S, online=True, now_s=NOW)
    slow.took(4, 4, INPUT_S, online=True, now_s=NOW, share=0.05)
    usual_s = 4 * (INPUT_S + 0.001) / 0.5
    assert room(usual, now=NOW + 1.01 * usual_s, online=True) > 0
    assert room(slow, now=NOW + 19.9 * usual_s, online=True) == 0
    assert room(slow, now=NOW + 20.1 * usual_s, online=True) > 0
