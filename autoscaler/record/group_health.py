"""Health of consumer groups by partition, from a sliding window of readings, similar to Burrow; and its metrics.

    records were deleted before they were committed, in the window     lost
    the committed offset went back within the window                   rewound
    the lag was zero at some time in the window                        ok
    no progress at all, or none for longer than it had lasted and for half the window
                                                                       stalled if an instance serves it, else stopped
    progress, but minimum and maximum lag of the later half are above those of the earlier half
                                                                       lagging
    else                                                               ok

Two differences from Burrow are deliberate. Burrow tells an absent consumer from a stuck one by repeated commits; our
consumers never repeat a commit but report that they are alive. Burrow warns about any lag that never falls; here a few
queries are always in progress, and a steady lag is normal for a busy queue.

Until the window is full, or while a value in it is unknown, only `lost` and `rewound` are reported.
"""

import logging
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from broker.kafka.offsets import UNKNOWN
from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import GroupHealth

WINDOW: Final = 30
"""Number of readings that health is judged from: 30 seconds by default."""
HEALTHS: Final = tuple(GroupHealth)
_CODE: Final = {health: code for code, health in enumerate(HEALTHS)}
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


def judge(committed: NDArray[np.int64], lag: NDArray[np.int64], served: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return the health of each partition, as an index of HEALTHS.

    Args:
        committed: offsets by reading, the oldest first, and partition; -1 is never, -2 unknown.
        lag: records by reading and partition; -1 is unknown.
        served: true for partitions that a live worker or selector serves.
    """
    readings, columns = lag.shape
    found = np.full(columns, _CODE[GroupHealth.OK], np.int8)
    if not readings:
        return found
    steps = np.diff(committed, axis=0)
    known = (committed[1:] != UNKNOWN) & (committed[:-1] != UNKNOWN)
    complete = (readings >= WINDOW) & (lag >= 0).all(axis=0)
    behind = complete & (lag > 0).all(axis=0)
    moves = (steps > 0) & known
    stuck = behind & _stands_still(moves)
    half = readings // 2
    rises = behind & (readings > 1)
    if half:
        early, late = lag[:half], lag[half:]
        rises &= (late.min(axis=0) > early.min(axis=0)) & (late.max(axis=0) > early.max(axis=0))
    found[rises] = _CODE[GroupHealth.LAGGING]
    found[stuck & served] = _CODE[GroupHealth.STALLED]
    found[stuck & ~served] = _CODE[GroupHealth.STOPPED]
    found[lag[-1] < 0] = _CODE[GroupHealth.UNKNOWN]
    found[((steps < 0) & known).any(axis=0)] = _CODE[GroupHealth.REWOUND]
    return found


def _stands_still(moves: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return true for partitions without progress, or whose standstill is longer than the progress before it."""
    steps = len(moves)
    if not steps:
        return np.ones(moves.shape[1], np.bool_)
    ever = moves.any(axis=0)
    first, last = moves.argmax(axis=0), steps - 1 - moves[::-1].argmax(axis=0)
    stood = steps - 1 - last
    return ~ever | ((stood > last - first) & (stood > steps // 2))


class GroupHealthWindow:
    """Window of readings of one set of group partitions; another set needs a new window."""

    def __init__(self, group_partitions: int) -> None:
        self._committed = np.zeros((WINDOW, group_partitions), np.int64)
        self._lag = np.zeros((WINDOW, group_partitions), np.int64)
        self._count = 0
        self._rewound = np.full(group_partitions, -WINDOW, np.int64)
        """Index of the reading at which each partition's commit last went back."""
        self._lost = np.full(group_partitions, -WINDOW, np.int64)
        """Index of the reading at which each partition last lost records."""

    def judge(
        self, committed: NDArray[np.int64], lag: NDArray[np.int64], served: NDArray[np.bool_], lost: NDArray[np.bool_]
    ) -> NDArray[np.int8]:
        """Add a reading and judge all partitions; those without lag and rewind are ok without a closer look."""
        before, now = self._committed[(self._count - 1) % WINDOW], self._count % WINDOW
        if self._count:
            self._rewound[(committed < before) & (committed != UNKNOWN)] = self._count
        self._lost[lost] = self._count
        self._committed[now], self._lag[now] = committed, lag
        self._count += 1
        found = np.full(len(lag), _CODE[GroupHealth.OK], np.int8)
        close = np.flatnonzero((lag != 0) | (self._rewound > self._count - WINDOW))
        held = min(self._count, WINDOW)
        order = np.arange(self._count - held, self._count) % WINDOW
        found[close] = judge(self._committed[np.ix_(order, close)], self._lag[np.ix_(order, close)], served[close])
        found[self._lost >= self._count - WINDOW] = _CODE[GroupHealth.LOST]
        return found


class GroupGauges:
    """Gauges of one set of group partitions, which must be sorted by group and topic, as readings are.

    There are thousands of groups and few change between two readings, so only changed gauges are set. A group with any
    unknown partition shows NaN instead of a wrong sum.
    """

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
