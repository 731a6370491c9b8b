"""Counts the records that were deleted before their group had committed them, each once.

The gap between a committed offset and the begin of the log appears in each reading until the group commits beyond it,
so only its growth is counted. A group that was rewound, by a zombie or a person, has lost nothing that it had committed
before: those records were finished and trimmed.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import LagSample


class LossCounter:
    """Counter over the readings of one set of group partitions.

    Args:
        group_partitions: the order of values in a reading.
        accounted: offsets below which records are known to be committed, or were counted as lost.
    """

    def __init__(self, group_partitions: Sequence[GroupPartition], accounted: Mapping[GroupPartition, int]) -> None:
        self._group_partitions = group_partitions
        self._accounted = np.array([accounted.get(found, 0) for found in group_partitions], np.int64)

    @property
    def accounted(self) -> dict[GroupPartition, int]:
        """Offsets below which records are known to be committed or were counted as lost, to continue with."""
        return dict(zip(self._group_partitions, self._accounted.tolist(), strict=True))

    def count(self, reading: LagObservation) -> NDArray[np.int64]:
        """Add a reading; return the records lost since the previous one, by group partition."""
        accounted = np.maximum(self._accounted, reading.committed)
        # An end below the accounted offset: the topic was recreated.
        made_anew = (reading.end >= 0) & (reading.end < accounted)
        accounted[made_anew] = np.maximum(reading.committed[made_anew], 0)
        begins = np.where(reading.lost > 0, reading.committed + reading.lost, 0)
        lost = np.maximum(begins - accounted, 0)
        self._accounted = np.maximum(accounted, begins)
        return lost


def accounted_in(samples: Iterable[LagSample]) -> dict[GroupPartition, int]:
    """Return the offsets that an earlier leader accounted for: end offset less lag of its last reading."""
    return {
        GroupPartition(one.consumer_group, one.topic, one.partition): one.end_offset - one.lag
        for one in samples
        if one.committed is not None and one.end_offset is not None and one.lag is not None
    }
