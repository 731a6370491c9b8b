"""How many jobs may be kept that have not ended: pure, the time and the counts come in.

All gateways share one limit, which each knows from a count in the database that is a moment old, and what it has added
since; so it may be exceeded by what the others add meanwhile. When to come back is told by how fast jobs end.
"""

from math import inf
from typing import Final

from schemas.errors import InvalidRequest, QuotaExceeded
from schemas.rows.jobs import JobBacklog

_FRESH_S: Final = 1.0
_LEAST_S: Final = 1.0
_MOST_S: Final = 60.0
"""Shortest and longest time after which who was refused is asked to come back."""


class JobRoom:
    """Room for jobs that have not ended, as far as one gateway knows."""

    def __init__(self, max_jobs: int, max_bytes: int) -> None:
        self._max = JobBacklog(max_jobs, max_bytes)
        self._counted = JobBacklog(0, 0)
        self._counted_at = -inf
        self._added = 0
        self._added_bytes = 0
        self._ended_per_s = 0.0

    def is_stale(self, now: float) -> bool:
        """Whether jobs have to be counted before any is taken."""
        return now - self._counted_at >= _FRESH_S

    def count(self, backlog: JobBacklog, now: float) -> None:
        """Learn how many there are."""
        ended = self._counted.jobs + self._added - backlog.jobs
        self._ended_per_s = max(ended, 0) / (now - self._counted_at)
        self._counted, self._counted_at = backlog, now
        self._added = self._added_bytes = 0

    def take(self, jobs: int, size: int) -> None:
        """Take room for jobs of so many bytes in all.

        Raises:
            QuotaExceeded: there is none now; it says when to come back.
            InvalidRequest: there never is.
        """
        if jobs > self._max.jobs or size > self._max.bytes:
            raise InvalidRequest(
                f"{jobs} jobs of {size} bytes are more than may be kept at all, {self._max.jobs} of {self._max.bytes}"
            )
        waiting, held = self._counted.jobs + self._added, self._counted.bytes + self._added_bytes
        if waiting + jobs > self._max.jobs or held + size > self._max.bytes:
            raise QuotaExceeded(
                f"{waiting} jobs with {held} bytes have not ended; at most {self._max.jobs} with {self._max.bytes} are "
                "kept: try again later",
                retry_after_s=self._retry_after_s(waiting + jobs - self._max.jobs),
            )
        self._added += jobs
        self._added_bytes += size

    def _retry_after_s(self, too_many: int) -> float:
        """Seconds in which room may be made, if jobs go on to end as they did."""
        if not self._ended_per_s:
            return _MOST_S
        return min(max(too_many / self._ended_per_s, _LEAST_S), _MOST_S)
