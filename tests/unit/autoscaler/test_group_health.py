"""Tests of the health of consumer groups: cases of committed offsets and lags, reading by reading; and its metrics."""

from math import isnan, nan

import numpy as np
import pytest
from prometheus_client import REGISTRY

from autoscaler.record.group_health import HEALTHS, WINDOW, GroupGauges, GroupHealthWindow, judge
from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import GroupHealth

H = GroupHealth
HALF = WINDOW // 2


def steps(*parts: tuple[int, int], start: int = 100) -> list[int]:
    """Return the last readings of a series: each part `(count, step)` adds `count` readings that grow by `step`."""
    values, value = [start], start
    for count, step in parts:
        for _ in range(count):
            value += step
            values.append(value)
    return values[-WINDOW:]


MOVES = steps((WINDOW, 5))
NOTHING = np.array([False])
STANDS = steps((WINDOW, 0))
CASES: dict[str, tuple[list[int], list[int], bool, GroupHealth]] = {
    "idle": (STANDS, [0] * WINDOW, True, H.OK),
    "caught up once": (STANDS, [*[4] * HALF, 0, *[4] * (WINDOW - HALF - 1)], True, H.OK),
    "busy, a steady lag": (MOVES, [7, 9, 8] * (WINDOW // 3), True, H.OK),
    "busy, the lag falls": (MOVES, steps((WINDOW, -1), start=90), True, H.OK),
    "falls behind evenly": (MOVES, steps((WINDOW, 3)), True, H.LAGGING),
    "falls behind in jumps": (MOVES, [10 * n + n % 2 * 8 for n in range(1, WINDOW + 1)], True, H.LAGGING),
    "one burst": (MOVES, [*[5] * HALF, 50, *[5] * (WINDOW - HALF - 1)], True, H.OK),
    "stuck with a fixed lag": (STANDS, [3] * WINDOW, True, H.STALLED),
    "stuck while more comes": (STANDS, steps((WINDOW, 2)), True, H.STALLED),
    "nobody consumes": (STANDS, steps((WINDOW, 2)), False, H.STOPPED),
    "nobody ever did": ([-1] * WINDOW, [3] * WINDOW, False, H.STOPPED),
    "stopped lately": (steps((WINDOW // 3, 5), (WINDOW, 0))[:WINDOW], [3] * WINDOW, False, H.STOPPED),
    "stopped a moment ago": (steps((WINDOW - 5, 5), (5, 0)), [3] * WINDOW, False, H.OK),
    "commits seldom": (steps(*[(7, 0), (1, 40)] * 4, start=0), [20] * WINDOW, True, H.OK),
    "first commit, just now": ([*[-1] * (WINDOW - 1), 4], [9] * WINDOW, True, H.OK),
    "rewound": ([*MOVES[:-3], 10, 20, 30], [9] * WINDOW, True, H.REWOUND),
    "rewound and caught up": ([*MOVES[:-3], 10, 20, 30], [*[9] * (WINDOW - 1), 0], True, H.REWOUND),
    "offsets deleted": ([*MOVES[:-1], -1], [9] * WINDOW, True, H.REWOUND),
    "unknown now": ([*MOVES[:-1], -2], [*[9] * (WINDOW - 1), -1], True, H.UNKNOWN),
    "unknown a while ago": ([5, -2, *[5] * (WINDOW - 2)], [3, -1, *[3] * (WINDOW - 2)], True, H.OK),
    "too early to say": (STANDS[:5], [3] * 5, False, H.OK),
    "too early, but rewound": ([5, 4], [3, 4], True, H.REWOUND),
    "the first reading": ([5], [3], True, H.OK),
}


@pytest.mark.parametrize(("committed", "lag", "served", "health"), CASES.values(), ids=CASES)
def test_judge_of_offset_history(committed: list[int], lag: list[int], served: bool, health: GroupHealth) -> None:
    column = np.array(committed, np.int64)[:, None], np.array(lag, np.int64)[:, None], np.array([served])
    assert HEALTHS[judge(*column)[0]] is health


def test_group_health_window_judges_many_partitions() -> None:
    cases = [case for case in CASES.values() if len(case[0]) == len(case[1]) == WINDOW]
    watch, found, nothing = GroupHealthWindow(len(cases)), np.zeros(0), np.zeros(len(cases), np.bool_)
    for number in range(WINDOW):
        committed = np.array([case[0][number] for case in cases], np.int64)
        lag = np.array([case[1][number] for case in cases], np.int64)
        found = watch.judge(committed, lag, np.array([case[2] for case in cases]), nothing)
    assert [HEALTHS[int(code)] for code in found] == [case[3] for case in cases]


def test_group_health_window_drops_old_readings() -> None:
    watch = GroupHealthWindow(1)
    served = np.array([True])
    for offset in (50, 10, *[11] * (WINDOW - 2)):
        found = watch.judge(np.array([offset]), np.array([1]), served, NOTHING)
        if offset != 50:
            assert HEALTHS[found[0]] is H.REWOUND
    assert HEALTHS[watch.judge(np.array([11]), np.array([1]), served, NOTHING)[0]] is H.STALLED
    assert HEALTHS[watch.judge(np.array([11]), np.array([0]), served, NOTHING)[0]] is H.OK


def test_group_health_window_keeps_loss_for_its_length() -> None:
    watch, served = GroupHealthWindow(1), np.array([True])
    for lost in (True, *[False] * (WINDOW - 1)):
        found = watch.judge(np.array([50]), np.array([0]), served, np.array([lost]))
        assert HEALTHS[found[0]] is H.LOST
    assert HEALTHS[watch.judge(np.array([50]), np.array([0]), served, NOTHING)[0]] is H.OK


GROUP_PARTITIONS = (GroupPartition("g", "t", 0), GroupPartition("g", "t", 1), GroupPartition("h", "t", 0))


def gauged(*lag: int) -> LagObservation:
    lags = np.array(lag, np.int64)
    return LagObservation(100.0, GROUP_PARTITIONS, lags, lags, lags, np.where(lags > 0, 98.0, nan), 0 * lags)


def healths(*of: GroupHealth) -> np.ndarray:
    return np.array([HEALTHS.index(health) for health in of], np.int8)


def value(name: str, group: str) -> float:
    found = REGISTRY.get_sample_value(name, {"consumer_group": group, "topic": "t"})
    assert found is not None
    return found


def test_group_gauges_sum_partitions_and_log_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ok, stalled = GroupHealth.OK, GroupHealth.STALLED
    gauges = GroupGauges(GROUP_PARTITIONS)
    gauges.show(gauged(3, 4, 0), healths(ok, ok, ok))
    assert (value("kafka_consumergroup_group_lag", "g"), value("kafka_consumergroup_group_lag", "h")) == (7, 0)
    assert value("kafka_consumergroup_group_lag_seconds", "g") == 2.0
    assert caplog.text == ""
    for _ in range(2):
        gauges.show(gauged(3, 4, -1), healths(ok, stalled, GroupHealth.UNKNOWN))
    assert isnan(value("kafka_consumergroup_group_lag", "h"))
    assert isnan(value("kafka_consumergroup_group_lag_seconds", "h"))
    assert value("infaas_group_health", "g") == HEALTHS.index(stalled)
    assert caplog.text.count("group g is stalled on t") == 1
    gauges.show(gauged(3, 4, 1), healths(ok, ok, ok))
    assert caplog.text.count("group g is ok on t") == 1
    assert value("kafka_consumergroup_group_lag", "h") == 1
