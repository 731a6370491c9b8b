"""Commits the watermarks of the consumers of a group.

    a watermark moved -> a moment later: all moved ones are committed in one request -> failed: again with the next

A selector has one consumer in its group. The instances of a worker share few groups, so a worker sends few commits
however many instances it has: `SharedCommitters`.

Rules.
* A process that cannot tell whether it still owns its partitions commits nothing (`may_commit`) until it can.
* Without the group's protocol nothing fences commits: a predecessor that wakes up late may commit an old offset. The
  reader of a partition finds this within seconds, and commits its own offset again.
* A failed commit is logged and counted, and tried again with the next one.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final, Self

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
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
    """Committer of the watermarks of one group's consumers; `run` and `heal_in_background` run until cancelled."""

    def __init__(
        self, coordinator: Coordinator, note: str, timeout_s: float, may_commit: Callable[[], bool] = lambda: True
    ) -> None:
        """`note` names the committer in Kafka. `may_commit` returns true if the partitions are known to be ours."""
        self.coordinator: Final = coordinator
        self._note = note
        self._timeout_s = timeout_s
        self._may_commit = may_commit
        self._trackers: list[InFlightTracker] = []
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()

    def attach(self, tracker: InFlightTracker) -> None:
        """Commit the watermarks of a consumer from now on."""
        tracker.changed = self._changed
        self._trackers.append(tracker)

    def detach(self, tracker: InFlightTracker) -> None:
        """Commit nothing more of a consumer that ends."""
        self._trackers.remove(tracker)

    async def commit(self, timeout_s: float | None = None) -> bool:
        """Commit the watermarks now; return true if all are committed. Errors of Kafka are logged, not raised.

        `timeout_s` bounds the wait for other commits, too.
        """
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s), self._lock:
                return await self._commit()
        except (KafkaError, OSError, TimeoutError) as error:
            self._changed.set()  # its caller may have cleared it, and `to_commit` was not called after a vain wait
            FAILED.labels(self.coordinator.name).inc()
            log.warning("group %s: commit failed, will try again: %r", self.coordinator.name, error)
            return False

    async def _commit(self) -> bool:
        moved = [(tracker, offsets) for tracker in self._trackers if (offsets := tracker.to_commit())]
        if not moved:
            return True
        epoch, done = self.coordinator.epoch, False
        try:
            if not self._may_commit():
                return False
            await self.coordinator.commit(_merged(offsets for _, offsets in moved), self._note)
            done = True
        finally:
            if not done:  # also if cancelled
                for tracker, _ in moved:
                    tracker.not_committed()
        if epoch == self.coordinator.epoch:
            for tracker, offsets in moved:
                tracker.committed(offsets)
        return True

    async def run(self) -> None:
        """Commit watermarks a moment after they moved, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(COMMIT_INTERVAL_S)
            await self.commit()

    async def heal_in_background(self, is_due: Callable[[], bool] = lambda: True) -> None:
        """Check the committed offsets every few seconds while `is_due`: while no group fences former members."""
        while True:
            await asyncio.sleep(HEAL_INTERVAL_S)
            if is_due():
                await self._heal()

    async def _heal(self) -> None:
        """Check that our last commits are still in place; have them committed again if they are not."""
        async with self._lock:
            last = [(tracker, tracker.last_committed()) for tracker in self._trackers]
            wanted = _merged(offsets for _, offsets in last)
            try:
                async with asyncio.timeout(self._timeout_s):
                    found = await self.coordinator.fetch(wanted.keys()) if wanted else {}
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("group %s: committed offsets are unknown: %r", self.coordinator.name, error)
                return
            for tracker, ours in last:
                _recommit(tracker, ours, found)


def _merged(offsets: Iterable[dict[TopicPartition, int]]) -> dict[TopicPartition, int]:
    """Merge offsets of consumers that read different partitions."""
    return {partition: offset for one in offsets for partition, offset in one.items()}


def _recommit(tracker: InFlightTracker, ours: dict[TopicPartition, int], found: dict[TopicPartition, int]) -> None:
    """Have the offsets of a consumer committed again of which Kafka has older ones, or none."""
    behind = {p: found.get(p, -1) for p, offset in ours.items() if offset > max(found.get(p, -1), 0)}
    if behind:  # or deleted: Kafka deletes the offsets of a group after a week without a commit
        for partition in behind.keys() & found.keys():
            REWOUND.labels(partition.topic).inc()
            log.warning("%s/%d: another process committed %d, not %d", *partition, found[partition], ours[partition])
        tracker.rewound(behind)


class SharedCommitters:
    """Committers of a process for all of its consumers, one for each group; an async context manager.

    Leave the context after the consumers that use it.
    """

    def __init__(
        self, client: AIOKafkaClient, note: str, timeout_s: float, may_commit: Callable[[], bool] = lambda: True
    ) -> None:
        """Commit over the connections of `client`; for the others see `Committer`."""
        self._client = client
        self._note = note
        self._timeout_s = timeout_s
        self._may_commit = may_commit
        self._committers: dict[str, Committer] = {}
        self._tasks = asyncio.TaskGroup()
        self._background: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._background:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    def of(self, group: str) -> Committer:
        """Return the committer of a group, which is started at its first use."""
        if group not in self._committers:
            coordinator = Coordinator(self._client, group)
            committer = Committer(coordinator, self._note, self._timeout_s, self._may_commit)
            self._committers[group] = committer
            for work, name in ((committer.run(), "commit"), (committer.heal_in_background(), "heal")):
                self._background.append(self._tasks.create_task(work, name=f"{name} {group}"))
        return self._committers[group]
