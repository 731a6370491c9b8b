"""Metrics and log of the lag and health of consumer groups.

There are thousands of groups and few change between two readings, so only changed gauges are set. A group with any
unknown partition shows NaN instead of a wrong sum.
"""

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from autoscaler.record.group_health import HEALTHS
from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import GroupHealth

LAG: Final = Gauge("kafka_consumergroup_group_lag", "Records not yet committed.", ["consumer_group", "topic"])
LAG_S: Final = Gauge(
    "kafka_consumergroup_group_lag_seconds", "Age of the oldest record not yet committed.", ["consumer_group", "topic"]
)
HEALTH: Final = Gauge(
    "infaas_group_health",
    f"Worst health of its partitions: {', '.join(f'{code} {health}' for code, health in enumerate(HEALTHS))}.",
    ["consumer_group", "topic"],
)
_ALARMING: Final = {GroupHealth.STALLED, GroupHealth.STOPPED, GroupHealth.REWOUND, GroupHealth.LOST}

log = logging.getLogger(__name__)


class GroupGauges:
    """Gauges of one set of group partitions, which must be sorted by group and topic, as readings are."""

    def __init__(self, group_partitions: tuple[GroupPartition, ...]) -> None:
        names = [(group_partition.group, group_partition.topic) for group_partition in group_partitions]
        self._first = np.array([row for row, name in enumerate(names) if row == 0 or names[row - 1] != name], np.intp)
        self._names = [names[row] for row in self._first]
        for gauge in (LAG, LAG_S, HEALTH):
            gauge.clear()
        self._children = [tuple(gauge.labels(*name) for name in self._names) for gauge in (LAG, LAG_S, HEALTH)]
        self._shown = [np.full(len(self._names), np.inf) for _ in self._children]

    def show(self, reading: LagObservation, healths: NDArray[np.int8]) -> None:
        """Set the gauges to a reading, and log the groups whose health became alarming or recovered."""
        if not self._names:
            return
        unknown = np.logical_or.reduceat(reading.lag < 0, self._first)
        lag = np.where(unknown, np.nan, np.add.reduceat(reading.lag, self._first))
        lag_s = np.maximum.reduceat(reading.lag_s, self._first)  # nan if any partition's is
        worst = np.maximum.reduceat(healths, self._first).astype(np.float64)
        self._log_changes(worst)
        for index, values in enumerate((lag, lag_s, worst)):
            shown, children = self._shown[index], self._children[index]
            for row in np.flatnonzero((values != shown) & ~(np.isnan(values) & np.isnan(shown))).tolist():
                children[row].set(values[row])
            self._shown[index] = values

    def _log_changes(self, worst: NDArray[np.float64]) -> None:
        before = self._shown[2]
        for row in np.flatnonzero(worst != before).tolist():
            was = HEALTHS[int(before[row])] if np.isfinite(before[row]) else GroupHealth.OK
            health = HEALTHS[int(worst[row])]
            if health in _ALARMING:
                log.warning("group %s is %s on %s", self._names[row][0], health, self._names[row][1])
            elif was in _ALARMING:
                log.info("group %s is %s on %s", self._names[row][0], health, self._names[row][1])
