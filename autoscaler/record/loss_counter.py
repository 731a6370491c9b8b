"""Counts the records that were deleted before their group had committed them, each once.

The gap between what is committed and where a partition begins is seen reading after reading, until the group commits
beyond it; only what it grows by is news. And a group that was rewound, by a zombie or a person, has not lost what it
had committed before: that was done, and trimmed.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from broker.lag.reader import GroupPartition, LagObservation
from schemas.rows.samples import LagSample


class LossCounter:
    """Counter over the readings of one set of group partitions.

    Args:
        group_partitions: what the readings run along.
        accounted: offsets below which partitions were known to be committed or counted as lost before.
    """

    def __init__(self, group_partitions: Sequence[GroupPartition], accounted: Mapping[GroupPartition, int]) -> None:
        self._group_partitions = group_partitions
        self._accounted = np.array([accounted.get(found, 0) for found in group_partitions], np.int64)

    @property
    def accounted(self) -> dict[GroupPartition, int]:
        """Offsets below which each is known to be committed or counted as lost, for a counter that goes on."""
        return dict(zip(self._group_partitions, self._accounted.tolist(), strict=True))

    def count(self, reading: LagObservation) -> NDArray[np.int64]:
        """Add a reading; returns the number of records lost since the one before, by group partition."""
        accounted = np.maximum(self._accounted, reading.committed)
        # An end below it: the topic was made anew.
        made_anew = (reading.end >= 0) & (reading.end < accounted)
        accounted[made_anew] = np.maximum(reading.committed[made_anew], 0)
        begins = np.where(reading.lost > 0, reading.committed + reading.lost, 0)
        lost = np.maximum(begins - accounted, 0)
        self._accounted = np.maximum(accounted, begins)
        return lost


def accounted_in(samples: Iterable[LagSample]) -> dict[GroupPartition, int]:
    """Offsets that an earlier leader accounted for: where its last reading of each partition begins to wait."""
    return {
        GroupPartition(one.consumer_group, one.topic, one.partition): one.end_offset - one.lag
        for one in samples
        if one.committed is not None and one.end_offset is not None and one.lag is not None
    }
