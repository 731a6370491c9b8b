"""A partition of a variant's topic: the queries that no worker has read, and the instance that reads them."""

from collections import deque
from typing import Protocol

from simulator.cluster.query import SimulatedQuery


class PartitionOwner(Protocol):
    """Instance that reads partitions, or wants to."""

    @property
    def worker_name(self) -> str:
        """Name of its worker."""
        ...

    def wants(self, number: int) -> bool:
        """Return true if its row wants the partition of this number."""
        ...

    def hand_over(self, log: "PartitionLog") -> None:
        """Give a partition away once all that was read is answered."""
        ...

    def retry(self) -> None:
        """Try again to take missing partitions, because one has become free."""
        ...

    def read(self, log: "PartitionLog") -> None:
        """Read what has arrived in a partition."""
        ...


class PartitionLog:
    """One partition of a variant's online or offline topic."""

    __slots__ = (
        "closing", "died", "end", "free_s", "held", "next_owner", "number", "offline", "owner", "position", "variant",
        "waiting",
    )  # fmt: skip

    def __init__(self, variant: str, number: int, *, offline: bool) -> None:
        self.variant = variant
        self.number = number
        self.offline = offline
        self.end = 0
        """Offset of the next query that a selector sends."""
        self.position = 0
        """Offset of the next query that the owner reads."""
        self.waiting: deque[SimulatedQuery] = deque()
        """Queries that have arrived and that no instance has read."""
        self.held = 0
        """Queries that the owner has read and not answered."""
        self.owner: PartitionOwner | None = None
        """Instance with the partition's lease."""
        self.next_owner: PartitionOwner | None = None
        """Instance that takes over once the owner has answered what it holds."""
        self.closing = False
        """True if the owner reads no more, because it hands the partition over."""
        self.free_s = 0.0
        """Time at which the lease of an owner that has died ends."""
        self.died = ""
        """Worker with that lease; its next process may take it at once."""

    @property
    def lag(self) -> int:
        """Queries that were sent and are not answered."""
        return self.end - self.position + self.held

    def ask(self, instance: PartitionOwner, now: float) -> bool:
        """Return true if the instance may take the partition now; if not, its owner is asked for it."""
        if self.owner is not None and not self.owner.wants(self.number):
            self.owner.hand_over(self)
        if self.owner is not None:
            self.next_owner = instance
            return False
        return now >= self.free_s or instance.worker_name == self.died

    def release(self) -> None:
        """Give up the lease."""
        self.owner, self.closing = None, False

    def append(self, query: SimulatedQuery) -> int:
        """Add a query that a selector sends; return its offset."""
        query.offset = self.end
        self.end += 1
        return query.offset

    def take(self) -> SimulatedQuery:
        """Return the next query for the owner; there must be one."""
        query = self.waiting.popleft()
        self.position += 1
        self.held += 1
        return query

    def put_back(self, queries: list[SimulatedQuery]) -> None:
        """Return queries whose owner died; the next owner reads them again."""
        self.waiting.extendleft(sorted(queries, key=lambda query: -query.offset))
        self.position -= len(queries)
        self.held -= len(queries)
