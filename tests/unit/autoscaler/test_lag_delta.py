"""Tests of `LagDeltaEncoder`: written changes, the sums of a minute, backlogs, health of groups, and lost records."""

from datetime import UTC, datetime, timedelta
from math import nan

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.observe.snapshot_builder import TopicBacklog
from autoscaler.record.group_health import HEALTHS, WINDOW
from autoscaler.record.lag_delta import LagDeltaEncoder, LossCounter, accounted_in
from broker.lag.reader import GroupPartition, LagObservation
from schemas import topics
from schemas.rows.samples import GroupHealth, LagSample
from schemas.status import InstanceState, InstanceStatus, PartitionStatus, WorkerStatus

VARIANT = "mlp.onnx-fp32.cpu"
AT = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)
TASK = topics.task_topic("digits")
QUEUE = topics.variant_topic(VARIANT)
GROUP_PARTITIONS = (
    GroupPartition(topics.SELECTOR_GROUP, TASK, 0),
    GroupPartition(topics.variant_group(VARIANT), QUEUE, 0),
    GroupPartition(topics.variant_group(VARIANT), QUEUE, 1),
)
IDS = [11, 12, 13]
OK = np.full(3, HEALTHS.index(GroupHealth.OK), np.int8)


def a_reading(
    end: tuple[int, ...], committed: tuple[int, ...], lag: tuple[int, ...] | None = None, at: datetime = AT
) -> LagObservation:
    ends, done = np.array(end, np.int64), np.array(committed, np.int64)
    lags = ends - np.maximum(done, 0) if lag is None else np.array(lag, np.int64)
    since_s = np.where(lags > 0, at.timestamp() - 2.0, nan)
    return LagObservation(at.timestamp(), GROUP_PARTITIONS, ends, done, lags, since_s, np.zeros_like(ends))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_lag_delta_encoder_writes_changes() -> None:
    first = a_reading((5, 5, 5), (5, 4, -1))
    encoder = LagDeltaEncoder(first, IDS)
    row, _ = encoder.encode(AT, first, OK)
    assert (row.whole, row.group_partitions, row.committed, row.lags) == (True, IDS, [5, 4, -1], [0, 1, 5])
    row, _ = encoder.encode(AT + seconds(1), first, OK)
    assert (row.whole, row.group_partitions) == (False, []), "nan is not news"
    row, _ = encoder.encode(AT + seconds(2), a_reading((5, 6, 5), (5, 4, -1)), OK)
    assert (row.group_partitions, row.end_offsets, row.lags) == ([12], [6], [2])
    ill = OK.copy()
    ill[2] = HEALTHS.index(GroupHealth.STOPPED)
    row, _ = encoder.encode(AT + seconds(3), a_reading((5, 6, 5), (5, 4, -1)), ill)
    assert (row.group_partitions, row.healths) == ([13], [HEALTHS.index(GroupHealth.STOPPED)])
    row, _ = encoder.encode(AT + seconds(60), a_reading((5, 6, 5), (5, 4, -1)), ill)
    assert (row.whole, row.group_partitions) == (True, IDS)
    encoder.reset()
    row, _ = encoder.encode(AT + seconds(61), a_reading((5, 6, 5), (5, 4, -1)), ill)
    assert row.whole, "the last one was not written"


def test_lag_delta_encoder_sums_a_minute() -> None:
    encoder = LagDeltaEncoder(a_reading((5, 5, 5), (5, 5, 5)), IDS)
    for second, end, committed, lag in (
        (0, 5, 5, None), (1, 15, 5, None), (2, 15, -2, (0, -1, 0)), (3, 15, 12, None), (58, 15, 14, None),
    ):  # fmt: skip
        encoder.encode(AT + seconds(second), a_reading((5, end, 5), (5, committed, 5), lag, AT + seconds(second)), OK)
    _, minute = encoder.encode(AT + seconds(60), a_reading((5, 16, 6), (5, 15, 6)), OK)
    assert minute is not None
    assert (minute.at, minute.readings, minute.group_partitions) == (AT.replace(second=0), 5, [12])
    assert (minute.arrived, minute.completed, minute.lag_max) == ([10], [9], [10])
    assert (minute.lag_mean, minute.lag_s_max) == ([14 / 4], [2.0])
    _, minute = encoder.encode(AT + seconds(120), a_reading((5, 16, 6), (5, 16, 6)), OK)
    assert minute is not None
    assert (minute.arrived, minute.completed) == ([1, 1], [1, 1]), "nothing falls between two minutes"


def test_lag_delta_encoder_keeps_backlog_if_lag_unknown() -> None:
    reading = a_reading((9, 5, 5), (5, 3, 4), (4, 2, 1))
    encoder = LagDeltaEncoder(reading, IDS)
    found = encoder.waiting(reading, {})
    assert found == {TASK: TopicBacklog(4, 2.0), QUEUE: TopicBacklog(3, 2.0)}
    unknown = a_reading((9, 5, -1), (5, 3, -2), (4, 2, -1))
    assert encoder.waiting(unknown, found) == found
    assert encoder.waiting(unknown, {}) == {TASK: TopicBacklog(4, 2.0), QUEUE: TopicBacklog(2, 2.0)}
    assert encoder.waiting(a_reading((9, 5, 5), (9, 5, 5)), found) == {}


def test_lag_delta_encoder_lets_offline_queries_wait() -> None:
    group_partition = GroupPartition(topics.OFFLINE_SELECTOR_GROUP, topics.offline_topic("digits"), 0)
    end, committed, lag = (np.array([value], np.int64) for value in (9, 5, 4))
    reading = LagObservation(
        AT.timestamp(), (group_partition,), end, committed, lag, np.array([nan]), np.zeros(1, np.int64)
    )
    encoder, healths = LagDeltaEncoder(reading, [1]), OK
    for _ in range(WINDOW):
        healths = encoder.judge(reading, [], selectors=True)
    assert [HEALTHS[code] for code in healths] == [GroupHealth.LAGGING]
    assert [HEALTHS[code] for code in encoder.judge(reading, [], selectors=False)] == [GroupHealth.STOPPED]
    assert encoder.waiting(reading, {}) == {topics.offline_topic("digits"): TopicBacklog(4, None)}


def test_lag_delta_encoder_health_depends_on_owner() -> None:
    reading = a_reading((9, 9, 9), (5, 5, 5))
    encoder, healths = LagDeltaEncoder(reading, IDS), OK
    instance = InstanceStatus(
        variant=VARIANT, state=InstanceState.ACTIVE, partitions=(PartitionStatus(1, 0, 0), PartitionStatus(7, 0, 0))
    )
    worker = WorkerStatus(
        worker="cpu-0", hardware="cpu", epoch=1, at_ms=0, slots=1, price_per_hour=0, memory_used=0,
        memory_total=1, instances=(instance,),
    )  # fmt: skip
    for _ in range(WINDOW):
        healths = encoder.judge(reading, [worker], selectors=True)
    assert [HEALTHS[code] for code in healths] == [GroupHealth.STALLED, GroupHealth.STOPPED, GroupHealth.STALLED]
    healths = encoder.judge(reading, [], selectors=False)
    assert {HEALTHS[code] for code in healths} == {GroupHealth.STOPPED}


PARTITION = GroupPartition("g", "t", 0)


def one_reading(begin: int, committed: int, end: int) -> LagObservation:
    """Return a reading as the lag reader makes it."""
    lost = max(begin - committed, 0) if committed >= 0 else 0
    lag = end - max(begin, committed)
    ends, commits, lags, losses = (np.array([value], np.int64) for value in (end, committed, lag, lost))
    return LagObservation(1.0, (PARTITION,), ends, commits, lags, np.array([nan]), losses)


def count(*readings: tuple[int, int, int]) -> list[int]:
    counter = LossCounter((PARTITION,), {})
    return [int(counter.count(one_reading(*reading))[0]) for reading in readings]


def test_loss_counter_counts_growth_of_a_gap() -> None:
    assert count((0, 5, 9), (7, 5, 9), (7, 5, 9), (9, 5, 9), (9, 9, 12)) == [0, 2, 0, 2, 0]


def test_loss_counter_ignores_rewound_offsets() -> None:
    assert count((0, 8, 9), (8, 3, 9), (9, 3, 9)) == [0, 0, 1]


def test_loss_counter_ignores_new_groups_and_topics() -> None:
    assert count((4, -1, 9), (4, -2, 9)) == [0, 0]
    assert count((8, 8, 9), (0, 2, 3), (3, 2, 3)) == [0, 0, 1]


def test_loss_counter_resumes_without_counting_again() -> None:
    first = LossCounter((PARTITION,), {})
    assert first.count(one_reading(7, 5, 9)).tolist() == [2]
    assert LossCounter((PARTITION,), first.accounted).count(one_reading(7, 5, 9)).tolist() == [0]
    written = LagSample(
        at=datetime.now(UTC), consumer_group="g", topic="t", partition=0, end_offset=9, committed=5, lag=2, lag_s=1.0,
        health=GroupHealth.LOST,
    )  # fmt: skip
    assert LossCounter((PARTITION,), accounted_in([written])).count(one_reading(7, 5, 9)).tolist() == [0]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=30))
def test_loss_counter_sum_equals_deleted_records(steps: list[tuple[int, int, bool]]) -> None:
    begin = committed = mark = deleted = 0
    counter, counted = LossCounter((PARTITION,), {}), 0
    for commits, deletes, rewinds in steps:
        committed = 0 if rewinds else max(committed, begin) + commits
        mark = max(mark, committed)
        counted += int(counter.count(one_reading(begin, committed, 1000))[0])
        begin += deletes
        deleted += max(begin - max(mark, begin - deletes), 0)
        mark = max(mark, begin)
        counted += int(counter.count(one_reading(begin, committed, 1000))[0])
    assert counted == deleted
