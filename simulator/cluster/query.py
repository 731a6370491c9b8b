"""A query on its way through the simulated system."""

from math import inf
from typing import TYPE_CHECKING

from msgspec.structs import replace

from schemas.query import Mode, Query

if TYPE_CHECKING:
    from collections.abc import Hashable

    from gateway.limits.concurrency import ConcurrencyLimit


class SimulatedQuery:
    """A query; also the work that waits in a batch queue (`workers.slots.large_queries.QueuedWork`)."""

    __slots__ = (
        "allow_late", "deadline_s", "extra_s", "gateway", "inputs", "kind", "number", "offline", "offset", "parts_left",
        "query", "sent_s", "shape",
    )  # fmt: skip

    def __init__(self, number: int, query: Query) -> None:
        self.number = number
        """Number in the trace."""
        self.query = query
        self.inputs = query.batch
        self.deadline_s = inf if query.deadline_ms is None else query.deadline_ms / 1e3
        self.offline = query.needs.mode is Mode.OFFLINE
        self.allow_late = query.needs.allow_late
        self.shape: Hashable = None
        self.extra_s = 0.0
        self.sent_s = 0.0
        """Time at which a selector sent it to its variant."""
        self.offset = 0
        """Offset in the partition that it was sent to."""
        self.parts_left = 1
        """Pieces that are not computed yet."""
        self.gateway = -1
        """Number of its gateway; -1: its client wrote it to Kafka."""
        self.kind: ConcurrencyLimit | None = None
        """Limit of its gateway that it entered."""

    def report(self, rejected: int) -> None:
        """Report similar queries that its gateway has refused since the last admitted one."""
        self.query = replace(self.query, rejected_upstream=rejected)


class Piece:
    """Piece of a large query."""

    __slots__ = ("allow_late", "deadline_s", "extra_s", "inputs", "offline", "query", "shape")

    def __init__(self, query: SimulatedQuery, inputs: int) -> None:
        self.query = query
        self.inputs = inputs
        self.shape: Hashable = None
        self.extra_s = 0.0
        self.deadline_s = query.deadline_s
        self.offline = query.offline
        self.allow_late = query.allow_late
