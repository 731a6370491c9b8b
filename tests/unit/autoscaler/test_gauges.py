"""Tests of `GroupGauges`: Prometheus shows sums of known values, and the log shows changes of health."""

from math import isnan, nan

import numpy as np
import pytest
from prometheus_client import REGISTRY

from autoscaler.record.gauges import GroupGauges
from autoscaler.record.group_health import HEALTHS
from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import GroupHealth

GROUP_PARTITIONS = (GroupPartition("g", "t", 0), GroupPartition("g", "t", 1), GroupPartition("h", "t", 0))


def a_reading(*lag: int) -> LagObservation:
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
    gauges.show(a_reading(3, 4, 0), healths(ok, ok, ok))
    assert (value("kafka_consumergroup_group_lag", "g"), value("kafka_consumergroup_group_lag", "h")) == (7, 0)
    assert value("kafka_consumergroup_group_lag_seconds", "g") == 2.0
    assert caplog.text == ""
    for _ in range(2):
        gauges.show(a_reading(3, 4, -1), healths(ok, stalled, GroupHealth.UNKNOWN))
    assert isnan(value("kafka_consumergroup_group_lag", "h"))
    assert isnan(value("kafka_consumergroup_group_lag_seconds", "h"))
    assert value("infaas_group_health", "g") == HEALTHS.index(stalled)
    assert caplog.text.count("group g is stalled on t") == 1
    gauges.show(a_reading(3, 4, 1), healths(ok, ok, ok))
    assert caplog.text.count("group g is ok on t") == 1
    assert value("kafka_consumergroup_group_lag", "h") == 1
