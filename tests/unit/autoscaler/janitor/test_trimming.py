"""Tests of trimming: only records that every group has committed, and reply topics that were abandoned."""

from math import nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from autoscaler.janitor.trimming import ReplyTopicWatch, idle_ends, trimmable
from broker.kafka.types import TopicPartition
from broker.lag.reader import GroupPartition, LagObservation
from schemas.topics import results_topic, task_topic, variant_topic

TOPIC = task_topic("digits")
GROUPS: tuple[str, ...] = ("g", "h")


def a_reading(*rows: tuple[str, str, int, int]) -> LagObservation:
    """Return a reading of rows of group, topic, partition and committed offset."""
    committed = np.array([row[3] for row in rows], np.int64)
    zero = np.zeros(len(rows), np.int64)
    unknown = np.full(len(rows), nan)
    return LagObservation(
        1.0, tuple(GroupPartition(*row[:3]) for row in rows), committed + 1, committed, zero, unknown, zero
    )


def test_trimmable_returns_committed_work_once() -> None:
    queue = variant_topic("mlp.onnx-fp32.cpu")
    reading = a_reading(
        ("g", TOPIC, 0, 5), ("g", TOPIC, 1, 0), ("h", queue, 0, 7), ("h", results_topic("digits"), 0, 9)
    )
    first = trimmable(reading, {})
    assert first == {TopicPartition(TOPIC, 0): 5, TopicPartition(queue, 0): 7}
    assert trimmable(reading, first) == {}


def test_trimmable_skips_missing_and_unknown_commits() -> None:
    assert trimmable(a_reading(("g", TOPIC, 0, -1), ("g", TOPIC, 1, -2)), {}) == {}


def test_trimmable_uses_slowest_group() -> None:
    assert trimmable(a_reading(("g", TOPIC, 0, 5), ("h", TOPIC, 0, 3)), {}) == {TopicPartition(TOPIC, 0): 3}
    assert trimmable(a_reading(("g", TOPIC, 0, 5), ("h", TOPIC, 0, -1)), {}) == {}


def test_idle_ends_are_finished_and_trimmed() -> None:
    queue = TopicPartition(variant_topic("mlp.onnx-fp32.cpu"), 0)
    rows = [("g", TOPIC, 0, 5), ("g", TOPIC, 1, 5), ("g", TOPIC, 2, 5), ("h", TOPIC, 2, 4), ("h", queue.topic, 0, 7)]
    reading = a_reading(*rows)
    reading = replace(reading, end=np.array([5, 6, 5, 5, 7], np.int64))
    trimmed = {TopicPartition(TOPIC, number): 5 for number in range(3)} | {queue: 6}
    assert idle_ends(reading, trimmed) == {TopicPartition(TOPIC, 0): 5}
    assert idle_ends(reading, trimmed | {queue: 7}) == {TopicPartition(TOPIC, 0): 5, queue: 7}


class Log:
    """Simulated partition with two consumer groups."""

    def __init__(self) -> None:
        self.begin = 0
        self.committed = dict.fromkeys(GROUPS, -1)
        self.done = dict.fromkeys(GROUPS, 0)
        """Highest offset that each group has ever committed; a rewound commit does not undo work."""

    def commit(self, group: str, offset: int) -> None:
        self.committed[group] = offset
        self.done[group] = max(self.done[group], offset)

    def read(self, *, unknown: bool) -> LagObservation:
        return a_reading(*[(g, TOPIC, 0, -2 if unknown and g == "h" else self.committed[g]) for g in GROUPS])

    def delete_before(self, offset: int) -> None:
        self.begin = max(self.begin, offset)


COMMITS = st.tuples(st.sampled_from(GROUPS), st.integers(0, 20))
READS = st.booleans()
TRIMS = st.sampled_from(["trimmed", "failed", "a new leader"])


@given(st.lists(st.one_of(COMMITS, READS, TRIMS), max_size=40))
def test_trimmable_never_deletes_unfinished_records(steps: list[tuple[str, int] | bool | str]) -> None:
    log, readings, trimmed = Log(), [Log().read(unknown=False)], dict[TopicPartition, int]()
    for step in steps:
        if isinstance(step, tuple):
            log.commit(*step)
        elif isinstance(step, bool):
            readings.append(log.read(unknown=step))
        else:
            trimmed = {} if step == "a new leader" else trimmed
            for partition, offset in trimmable(readings[-1], trimmed).items():
                if step != "failed":
                    log.delete_before(offset)
                    trimmed[partition] = offset
        assert log.begin <= min(log.done.values())


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
