"""Commits the watermarks of a consumer.

    a watermark moved -> a moment later: all that moved are committed -> after a failure: again with the next commit

Rules.
* A consumer that cannot tell whether it still owns its partitions commits nothing (`may_commit`) until it can.
* Without the group's protocol nothing fences commits: a predecessor that wakes up late may commit an old offset. The
  reader of a partition finds this within seconds, and commits its own offset again.
* A failed commit is logged and counted, and tried again with the next one.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from aiokafka.errors import KafkaError
from prometheus_client import Counter

from broker.delivery.group import Coordinator
from broker.delivery.in_flight import InFlightTracker

log = logging.getLogger(__name__)

COMMIT_INTERVAL_S: Final = 0.2
HEAL_INTERVAL_S: Final = 5.0

FAILED: Final = Counter("infaas_commit_failures_total", "Failed commits", ["consumer_group"])
REWOUND: Final = Counter(
    "infaas_commits_rewound_total", "Commits by other processes that moved an offset back", ["topic"]
)


class Committer:
    """Committer of the watermarks of one consumer; `run` and `heal_in_background` run until cancelled."""

    def __init__(
        self,
        coordinator: Coordinator,
        tracker: InFlightTracker,
        client_id: str,
        timeout_s: float,
        may_commit: Callable[[], bool] | None,
    ) -> None:
        self._coordinator = coordinator
        self._tracker = tracker
        self._client_id = client_id
        self._timeout_s = timeout_s
        self._may_commit = may_commit
        self._lock = asyncio.Lock()

    async def commit(self, timeout_s: float | None = None) -> bool:
        """Commit the watermarks now; return true if all are committed. Errors of Kafka are logged, not raised."""
        async with self._lock:
            moved = self._tracker.to_commit()
            if not moved:
                return True
            if self._may_commit is not None and not self._may_commit():
                self._tracker.not_committed()
                return False
            epoch, done = self._coordinator.epoch, False
            try:
                async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                    await self._coordinator.commit(moved, self._client_id)
                done = True
            except (KafkaError, OSError, TimeoutError) as error:
                FAILED.labels(self._coordinator.name).inc()
                log.warning("group %s: commit failed, will try again: %r", self._coordinator.name, error)
                return False
            finally:
                if not done:  # also if cancelled
                    self._tracker.not_committed()
            if epoch == self._coordinator.epoch:
                self._tracker.committed(moved)
            return True

    async def run(self) -> None:
        """Commit watermarks a moment after they moved, until cancelled."""
        changed = self._tracker.changed
        while True:
            await changed.wait()
            changed.clear()
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self.commit()

    async def heal_in_background(self, is_due: Callable[[], bool]) -> None:
        """Check the committed offsets every few seconds while `is_due`: while no group fences former members."""
        while True:
            await asyncio.sleep(HEAL_INTERVAL_S)
            if is_due():
                await self._heal()

    async def _heal(self) -> None:
        """Check that our last commits are still in place; have them committed again if they are not."""
        async with self._lock:
            ours = self._tracker.last_committed()
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self._coordinator.fetch(ours.keys()) if ours else {}
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("group %s: committed offsets are unknown: %r", self._coordinator.name, error)
                return
            behind = {p: found.get(p, -1) for p, offset in ours.items() if offset > max(found.get(p, -1), 0)}
            if behind:  # or deleted: Kafka deletes the offsets of a group after a week without a commit
                for partition in behind.keys() & found.keys():
                    REWOUND.labels(partition.topic).inc()
                    log.warning(
                        "%s/%d: another process committed %d, not %d", *partition, found[partition], ours[partition]
                    )
                self._tracker.rewound(behind)
