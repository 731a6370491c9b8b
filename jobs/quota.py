"""Limit of unfinished jobs. Pure; the time and the counts are arguments.

All gateways share one limit. Each knows the count in the database, at most a second old, and its own additions since.
The limit may therefore be exceeded by the additions of other gateways. The retry time of a refusal follows from the
rate at which jobs end.
"""

from math import inf
from typing import Final

from schemas.errors import InvalidRequest, QuotaExceeded
from schemas.jobs import JobBacklog

_FRESH_S: Final = 1.0
_LEAST_S: Final = 1.0
_MOST_S: Final = 60.0
"""Minimum and maximum retry time of a refusal in seconds."""


class JobQuota:
    """Remaining capacity for unfinished jobs, as one gateway knows it."""

    def __init__(self, max_jobs: int, max_bytes: int) -> None:
        self._max = JobBacklog(max_jobs, max_bytes)
        self._counted = JobBacklog(0, 0)
        self._counted_at = -inf
        self._added = 0
        self._added_bytes = 0
        self._ended_per_s = 0.0

    def is_stale(self, now: float) -> bool:
        """Return true if the jobs must be counted before more are accepted."""
        return now - self._counted_at >= _FRESH_S

    def count(self, backlog: JobBacklog, now: float) -> None:
        """Record the count of unfinished jobs."""
        ended = self._counted.jobs + self._added - backlog.jobs
        self._ended_per_s = max(ended, 0) / (now - self._counted_at)
        self._counted, self._counted_at = backlog, now
        self._added = self._added_bytes = 0

    def take(self, jobs: int, size: int) -> None:
        """Reserve capacity for `jobs` jobs of `size` bytes in total.

        Raises:
            QuotaExceeded: there is no capacity at present; the error holds a retry time.
            InvalidRequest: the request exceeds the limit itself.
        """
        if jobs > self._max.jobs or size > self._max.bytes:
            raise InvalidRequest(
                f"{jobs} jobs of {size} bytes exceed the limit of {self._max.jobs} jobs and {self._max.bytes} bytes"
            )
        waiting, held = self._counted.jobs + self._added, self._counted.bytes + self._added_bytes
        if waiting + jobs > self._max.jobs or held + size > self._max.bytes:
            raise QuotaExceeded(
                f"{waiting} jobs with {held} bytes have not ended; the limit is {self._max.jobs} jobs and "
                f"{self._max.bytes} bytes: try again later",
                retry_after_s=self._retry_after_s(waiting + jobs - self._max.jobs),
            )
        self._added += jobs
        self._added_bytes += size

    def _retry_after_s(self, too_many: int) -> float:
        """Return the estimated seconds until `too_many` jobs have ended, at the recent rate."""
        if not self._ended_per_s:
            return _MOST_S
        return min(max(too_many / self._ended_per_s, _LEAST_S), _MOST_S)
