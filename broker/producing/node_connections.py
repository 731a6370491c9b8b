"""Partitions that go to a broker in one request, and the connection of that request.

Kafka answers the requests of a connection one after the other, and each of them when its slowest partition is on all
replicas. A partition with a slow replica would delay all others of its request, and all later ones on its connection.

Rules.
* One request is in progress at a time, with all partitions that are ready: this makes batches. Another one begins, over
  another connection, only while that takes longer than `SLOW_S`.
* All partitions of a request that took longer are slow, until one of their requests takes less. Slow partitions never
  go with others. They are divided among all connections but one, so partitions that only shared a request with a slow
  one are soon recognised.
* One connection is kept for partitions that are not slow.
* A partition is in one request at a time, whatever the connection: its queue keeps its order and its sequence.

No I/O and no event loop; the caller passes the time.
"""

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from broker.producing.partition_queue import PartitionQueue

SLOW_S: Final = 0.3
"""Seconds after which a request is slow."""
CONNECTIONS: Final = 5
"""Largest number of requests in progress to a broker, each over a connection of its own."""


class Opening(NamedTuple):
    """Request that may begin now."""

    connection: int
    queues: dict[PartitionQueue, None]
    """Queues that may go with it; the caller removes the ones that it takes."""
    most: int
    """Largest number of queues to take."""
    slow: bool


class _UnderWay(NamedTuple):
    since_s: float
    slow: bool

    def is_slow(self, now_s: float) -> bool:
        return self.slow or now_s - self.since_s >= SLOW_S


class NodeConnections:
    """Queues that are ready to be sent to one broker, and the requests in progress to it."""

    __slots__ = ("_ready", "_slow", "_under_way")

    def __init__(self) -> None:
        self._ready: dict[PartitionQueue, None] = {}
        self._slow: dict[PartitionQueue, None] = {}
        self._under_way: dict[int, _UnderWay] = {}

    def __bool__(self) -> bool:
        """Return true if any queue is ready."""
        return bool(self._ready or self._slow)

    def __contains__(self, queue: PartitionQueue) -> bool:
        """Return true if the queue is ready."""
        return queue in self._ready or queue in self._slow

    def add(self, queue: PartitionQueue) -> None:
        """Note a queue that is ready."""
        (self._slow if queue.slow else self._ready)[queue] = None

    def opening(self, now_s: float) -> Opening | None:
        """Return the next request that may begin; None if none may now. The caller then calls `begin`."""
        free = next((connection for connection in range(CONNECTIONS) if connection not in self._under_way), None)
        if free is None:
            return None
        if self._ready and all(request.is_slow(now_s) for request in self._under_way.values()):
            return Opening(free, self._ready, len(self._ready), slow=False)
        left = CONNECTIONS - 1 - sum(request.is_slow(now_s) for request in self._under_way.values())
        if self._slow and left > 0:
            return Opening(free, self._slow, -(-len(self._slow) // left), slow=True)
        return None

    def opens_s(self, now_s: float) -> float:
        """Return when to ask for an opening if no request ends before; infinite if there is no such time."""
        if not self or self.opening(now_s) is not None:
            return now_s if self else inf
        if not self._ready or len(self._under_way) == CONNECTIONS:
            return inf
        return max(request.since_s + SLOW_S for request in self._under_way.values() if not request.is_slow(now_s))

    def begin(self, connection: int, now_s: float, *, slow: bool) -> None:
        """Note that a request begins."""
        self._under_way[connection] = _UnderWay(now_s, slow)

    def end(self, connection: int, now_s: float, queues: Iterable[PartitionQueue]) -> None:
        """Note that a request has ended; its duration tells whether its partitions are slow."""
        slow = now_s - self._under_way.pop(connection).since_s >= SLOW_S
        for queue in queues:
            queue.slow = slow
