"""How consumer groups get on with their partitions, judged from a sliding window of readings in the manner of Burrow.

    records were deleted before they were committed, in the window     lost
    went back within the window                                        rewound
    caught up at some time in the window                               ok
    moved, then stood still for longer than it moved and for half the window, or did not move at all
                                                                       stalled if somebody serves it, else stopped
    moved, but both the least and the most lag of the later half are above those of the earlier half
                                                                       lagging
    else                                                               ok

Different from Burrow by intent. It sees commits, and tells a consumer that is gone from one that is stuck by whether
commits are repeated; ours never repeat one, but say that they live. It takes any lag that never falls for a warning;
here a few queries are always under way, and a steady lag is how a busy queue looks.

Until the window is full, or while something in it is unknown, only `lost` and `rewound` are said.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from broker.lag.offsets_api import UNKNOWN
from schemas.rows.samples import GroupHealth

WINDOW: Final = 30
"""Number of readings that health is judged from, half a minute of them by default."""
HEALTHS: Final = tuple(GroupHealth)
_CODE: Final = {health: code for code, health in enumerate(HEALTHS)}


def judge(committed: NDArray[np.int64], lag: NDArray[np.int64], served: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Health of each partition, as an index of HEALTHS.

    Args:
        committed: offsets by reading, the oldest first, and partition; -1 is never, -2 unknown.
        lag: records by reading and partition; -1 is unknown.
        served: whether some worker or selector that lives serves it, by partition.
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
    """Whether each partition did not move, or moved long ago and for a shorter time than it has stood since."""
    steps = len(moves)
    if not steps:
        return np.ones(moves.shape[1], np.bool_)
    ever = moves.any(axis=0)
    first, last = moves.argmax(axis=0), steps - 1 - moves[::-1].argmax(axis=0)
    stood = steps - 1 - last
    return ~ever | ((stood > last - first) & (stood > steps // 2))


class GroupHealthWindow:
    """Window of readings of one set of group partitions; a new set begins anew."""

    def __init__(self, group_partitions: int) -> None:
        self._committed = np.zeros((WINDOW, group_partitions), np.int64)
        self._lag = np.zeros((WINDOW, group_partitions), np.int64)
        self._count = 0
        self._rewound = np.full(group_partitions, -WINDOW, np.int64)
        """Number of the reading at which each partition last went back."""
        self._lost = np.full(group_partitions, -WINDOW, np.int64)
        """Number of the reading at which each partition last missed records."""

    def judge(
        self,
        committed: NDArray[np.int64],
        lag: NDArray[np.int64],
        served: NDArray[np.bool_],
        lost: NDArray[np.bool_],
    ) -> NDArray[np.int8]:
        """Add a reading, and judge all partitions; only those that are behind or went back are looked at closely."""
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
