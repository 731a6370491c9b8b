"""Tests of `ReplyTopicWatch`: a topic is abandoned after a long time without appends, if it was observed meanwhile."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.janitor.reply_topic_watch import ReplyTopicWatch

AGE_S, GAP_S, STEP_S = 100.0, 25.0, 10.0


def test_reply_topic_watch_finds_unchanged_topic() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    found = [watch.abandoned({"dead": 3, "idle": number // 5}, STEP_S * number) for number in range(11)]
    assert found == [[]] * 10 + [["dead"]]


def test_reply_topic_watch_ignores_unobserved_time() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    assert watch.abandoned({"idle": 0}, 0.0) == []
    # Kafka was unreachable for an hour, so the owner could not claim its topic.
    assert watch.abandoned({"idle": 0}, 3600.0) == []
    assert watch.abandoned({"idle": 0}, 3610.0) == []


def test_reply_topic_watch_restarts_after_absence() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    looks = [({"t": 0}, STEP_S * number) if number != 5 else ({}, 50.0) for number in range(15)]
    assert [watch.abandoned(*look) for look in looks] == [[]] * 15


@given(st.lists(st.tuples(st.floats(0.1, 40.0), st.booleans()), max_size=60))
def test_reply_topic_watch_keeps_claimed_topic(steps: list[tuple[float, bool]]) -> None:
    watch, now_s, claimed_s, end = ReplyTopicWatch(AGE_S, GAP_S), 0.0, 0.0, 0
    for step_s, claims in steps:
        now_s += step_s
        if claims or now_s - claimed_s > AGE_S / 3:
            end, claimed_s = end + 1, now_s
        assert watch.abandoned({"t": end}, now_s) == []
