"""A reply topic is abandoned when nothing was appended for long, as far as anybody could look."""

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.janitor.reply_topic_watch import ReplyTopicWatch

AGE_S, GAP_S, STEP_S = 100.0, 25.0, 10.0


def test_only_what_stands_still_for_long_is_abandoned() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    found = [watch.abandoned({"dead": 3, "idle": number // 5}, STEP_S * number) for number in range(11)]
    assert found == [[]] * 10 + [["dead"]]


def test_time_in_which_nobody_looked_does_not_count() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    assert watch.abandoned({"idle": 0}, 0.0) == []
    # Kafka was away for an hour: the owner could not claim its topic.
    assert watch.abandoned({"idle": 0}, 3600.0) == []
    assert watch.abandoned({"idle": 0}, 3610.0) == []


def test_a_topic_that_was_not_seen_for_a_while_begins_anew() -> None:
    watch = ReplyTopicWatch(AGE_S, GAP_S)
    looks = [({"t": 0}, STEP_S * number) if number != 5 else ({}, 50.0) for number in range(15)]
    assert [watch.abandoned(*look) for look in looks] == [[]] * 15


@given(st.lists(st.tuples(st.floats(0.1, 40.0), st.booleans()), max_size=60))
def test_one_that_is_claimed_often_enough_never_is(steps: list[tuple[float, bool]]) -> None:
    watch, now_s, claimed_s, end = ReplyTopicWatch(AGE_S, GAP_S), 0.0, 0.0, 0
    for step_s, claims in steps:
        now_s += step_s
        if claims or now_s - claimed_s > AGE_S / 3:
            end, claimed_s = end + 1, now_s
        assert watch.abandoned({"t": end}, now_s) == []
