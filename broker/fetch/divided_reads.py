"""Division of the partitions to read among fetches: those of each broker, and busy ones apart from idle ones.

A broker looks at every partition of a session for each fetch. So partitions without records for a while are read by
requests of their own, which the broker answers rarely. They become busy with their first record. A partition is taken
over with the next request of the other reads, so that no request in progress is broken off for it; until then the
former ones read it.
"""

from collections.abc import Iterator
from typing import Final

from broker.fetch.broker_reads import BrokerReads
from broker.fetch.fetch_buffer import FetchBuffer
from broker.fetch.fetched_partition import FetchedPartition

BUSY: Final = "fetch"
"""Name under which aiokafka keeps connections for the fetches of busy partitions, one per broker."""
IDLE: Final = "fetch idle partitions"
IDLE_AFTER_S: Final = 10.0
"""Seconds without records after which a partition counts as idle."""
REVIEWED_EACH_S: Final = 1.0
"""Seconds between two reviews of all busy partitions."""
_FEW: Final = 8
"""Number of partitions that are not worth another connection, however idle they are."""


class DividedReads:
    """Reads of all brokers, by busy and idle partitions."""

    def __init__(self, *, lasting: bool) -> None:
        self._lasting = lasting
        self._busy: dict[int, BrokerReads] = {}
        self._idle: dict[int, BrokerReads] = {}
        self._homes: dict[FetchedPartition, BrokerReads] = {}
        """Reads of each partition that can be read now."""
        self._reviewed_s = 0.0

    def place(self, buffer: FetchBuffer, state: FetchedPartition, node: int | None, most_bytes: int) -> None:
        """Read a partition from a broker, from its position on; None: from none."""
        home = self._homes.get(state)
        if home is not None and home.node != node:
            home.drop(state)
            del self._homes[state]
            home = None
        if node is None:
            return
        if home is None:
            home = self._homes[state] = self._busy_of(node)
        home.want(buffer, state, most_bytes)

    def due(self) -> Iterator[BrokerReads]:
        """Yield the reads with partitions and without a fetch in progress."""
        for reads in (*self._busy.values(), *self._idle.values()):
            if reads.is_due:
                yield reads

    def take_over(self, reads: BrokerReads, most_bytes: int) -> None:
        """Add the partitions to take over to the next request."""
        for state, buffer in reads.incoming.items():
            home = self._homes.get(state)
            if home is not None and home.node == reads.node:
                home.drop(state)
                self._homes[state] = reads
                reads.want(buffer, state, most_bytes)
        reads.incoming.clear()

    def has_handed_over(self, reads: BrokerReads, state: FetchedPartition) -> bool:
        """Return true if others have taken over a partition, so that its records come from them."""
        return self._homes.get(state, reads) is not reads

    def are_idle(self, reads: BrokerReads) -> bool:
        """Return true if these are the reads of a broker's idle partitions."""
        return self._idle[reads.node] is reads

    def found(self, reads: BrokerReads, buffer: FetchBuffer, state: FetchedPartition, now_s: float) -> None:
        """Note that a fetch has returned records of a partition."""
        state.found_s = now_s
        if self.are_idle(reads):
            self._busy[reads.node].incoming[state] = buffer

    def review(self, now_s: float) -> None:
        """Look for idle partitions, once in a while. Brokers that keep no sessions do not wake fetches, either."""
        if now_s < self._reviewed_s + REVIEWED_EACH_S:
            return
        self._reviewed_s = now_s
        for node, busy in self._busy.items():
            if busy.session.is_kept and len(busy.session) > _FEW:
                self._idle[node].incoming.update(
                    (state, buffer) for buffer, state in busy.partitions if state.found_s < now_s - IDLE_AFTER_S
                )

    def _busy_of(self, node: int) -> BrokerReads:
        if node not in self._busy:
            self._busy[node] = BrokerReads(node, BUSY, lasting=self._lasting)
            self._idle[node] = BrokerReads(node, IDLE, lasting=self._lasting)
        return self._busy[node]
