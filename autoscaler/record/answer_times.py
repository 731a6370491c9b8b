"""Collects the histograms of answer times that workers publish, for a row per task every five seconds.

The database adds up histograms bucket by bucket, so a row each second would make the quantiles of an overview several
times as dear.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from schemas.rows.samples import AnswerTimesSample

_INTERVAL: Final = timedelta(seconds=5)


class AnswerTimesSampler:
    """Sampler of the answer times of all tasks. Memory is bounded by the tasks that answered since the last row."""

    def __init__(self) -> None:
        self._tasks: dict[str, dict[int, int]] = {}
        self._at: datetime | None = None

    def add(self, times: Mapping[str, Mapping[int, int]]) -> None:
        """Add a worker's answers, by task and bucket."""
        for task, counts in times.items():
            sums = self._tasks.setdefault(task, {})
            for bucket, count in counts.items():
                sums[bucket] = sums.get(bucket, 0) + count

    def samples(self, at: datetime) -> list[AnswerTimesSample]:
        """Return the samples to record at this time: none until an interval has passed."""
        if self._at is not None and at - self._at < _INTERVAL:
            return []
        self._at, tasks, self._tasks = at, self._tasks, {}
        return [
            AnswerTimesSample(at=at, task=task, buckets=list(counts), counts=list(counts.values()))
            for task, counts in tasks.items()
        ]
