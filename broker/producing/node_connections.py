"""Decides which partitions go to a broker together, and over which connection.

Kafka answers the requests of a connection one after the other, and each when its slowest partition is on all replicas.
A partition whose replica is slow would delay all that go with it, and all that come after it on its connection.

Rules.
* One request is under way at a time, with all partitions that are ready: that is what makes batches. Another is begun,
  over another connection, only while that takes longer than `SLOW_S`.
* All partitions of a request that took longer are slow until one of their requests takes less. Slow partitions never
  go with others. They are dealt over all connections but one, so those that were only in bad company are soon told
  apart.
* One connection is left for partitions that are not slow.
* A partition is in one request at a time, whatever the connection: its order and its sequence are those of its queue.

No I/O and no event loop; the time comes in.
"""

from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from broker.producing.partition_queue import PartitionQueue

SLOW_S: Final = 0.3
"""Seconds after which a request is slow."""
CONNECTIONS: Final = 5
"""Requests under way to a broker, each over a connection of its own, at most."""


class Opening(NamedTuple):
    """A request that may begin now."""

    connection: int
    queues: dict[PartitionQueue, None]
    """Queues that may go with it: what is taken is to be removed."""
    most: int
    """Number of queues to take, at most."""
    slow: bool


class _UnderWay(NamedTuple):
    since_s: float
    slow: bool

    def is_slow(self, now_s: float) -> bool:
        return self.slow or now_s - self.since_s >= SLOW_S


class NodeConnections:
    """Queues that are ready to be sent to one broker, and the requests under way to it."""

    __slots__ = ("_ready", "_slow", "_under_way")

    def __init__(self) -> None:
        self._ready: dict[PartitionQueue, None] = {}
        self._slow: dict[PartitionQueue, None] = {}
        self._under_way: dict[int, _UnderWay] = {}

    def __bool__(self) -> bool:
        """Whether any queue is ready."""
        return bool(self._ready or self._slow)

    def __contains__(self, queue: PartitionQueue) -> bool:
        """Whether the queue is ready."""
        return queue in self._ready or queue in self._slow

    def add(self, queue: PartitionQueue) -> None:
        """Note a queue that is ready."""
        (self._slow if queue.slow else self._ready)[queue] = None

    def opening(self, now_s: float) -> Opening | None:
        """The next request that may begin, `begin` must follow if it does; None: none may now."""
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
        """When to ask for an opening, if no request ends before; infinite: there is none before."""
        if not self or self.opening(now_s) is not None:
            return now_s if self else inf
        if not self._ready or len(self._under_way) == CONNECTIONS:
            return inf
        return max(request.since_s + SLOW_S for request in self._under_way.values() if not request.is_slow(now_s))

    def begin(self, connection: int, now_s: float, *, slow: bool) -> None:
        """Note a request that begins."""
        self._under_way[connection] = _UnderWay(now_s, slow)

    def end(self, connection: int, now_s: float, queues: Iterable[PartitionQueue]) -> None:
        """Note a request that has ended, and whether its partitions are slow."""
        slow = now_s - self._under_way.pop(connection).since_s >= SLOW_S
        for queue in queues:
            queue.slow = slow
