"""Tests of `UnreadWatch`: the effect of partitions without a reader on readiness, gauge and log."""

import logging
import math

import pytest
from prometheus_client import REGISTRY

from broker.delivery.unread_watch import ALARM_S, UnreadWatch

GROUP = "test-unread"


class Count:
    """Number of partitions, set by the tests."""

    def __init__(self, now: int | None) -> None:
        self.now = now

    def __call__(self) -> int | None:
        return self.now


def shown() -> float:
    return REGISTRY.get_sample_value("infaas_unread_partitions", {"consumer_group": GROUP}) or 0.0


def test_watch_is_not_ready_before_each_partition_has_a_reader() -> None:
    count = Count(None)
    watch = UnreadWatch(GROUP, count)
    watch.look(0.0)
    assert "not a member" in watch.problem
    assert math.isnan(shown())
    count.now = 2
    watch.look(0.1)
    assert watch.problem == f"2 partitions of group {GROUP} have no reader"
    assert shown() == 2
    count.now = 0
    watch.look(0.2)
    assert watch.problem == ""
    assert shown() == 0


@pytest.mark.parametrize("unread", [3, None])
def test_watch_alarms_once_about_lasting_problem(unread: int | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    count = Count(0)
    watch = UnreadWatch(GROUP, count)
    watch.look(0.0)
    count.now = unread
    watch.look(1.0)
    watch.look(1.0 + ALARM_S)
    assert (watch.problem, caplog.records) == ("", []), "a move takes no longer"
    watch.look(1.1 + ALARM_S)
    watch.look(2.0 + ALARM_S)
    assert watch.problem
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    count.now = 0
    watch.look(3.0 + ALARM_S)
    assert watch.problem == ""
    assert caplog.records[-1].levelname == "INFO"
