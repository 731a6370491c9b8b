"""Replica of a variant: an instance with a partition of its own."""

from typing import TYPE_CHECKING

from simulator.baselines.priced_profile import PricedProfile
from simulator.cluster.partition_log import PartitionLog
from simulator.cluster.query import SimulatedQuery

if TYPE_CHECKING:
    from simulator.cluster.instance import SimulatedInstance


class Replica:
    """An instance from the decision to load it until it has ended; the death of its worker does not end it."""

    __slots__ = (
        "arrived", "arrived_inputs", "inputs_per_s", "instance", "log", "offline_log", "profile",
        "queries_per_s", "retiring", "worker",
    )  # fmt: skip

    def __init__(self, profile: PricedProfile, worker: str, number: int) -> None:
        self.profile = profile
        self.worker = worker
        self.log, self.offline_log = profile.variant.partition(number)
        self.instance: SimulatedInstance | None = None
        """None while its worker is not up."""
        self.retiring = False
        """True if it gets no more queries, and ends once it has answered all."""
        self.arrived = self.arrived_inputs = 0
        """Queries, and their inputs, since the last tick."""
        self.queries_per_s = self.inputs_per_s = 0.0
        """Rates between the last two ticks."""

    @property
    def is_ready(self) -> bool:
        """True if it computes queries."""
        return self.instance is not None and self.instance.is_serving

    @property
    def queued(self) -> int:
        """Queries that were sent to it and are not answered, as of now."""
        return self.log.lag + self.offline_log.lag

    def log_of(self, query: SimulatedQuery) -> PartitionLog:
        """Return the partition that a query belongs to."""
        return self.offline_log if query.offline else self.log

    def count(self, query: SimulatedQuery) -> None:
        """Count a query that is sent to it."""
        self.arrived += 1
        self.arrived_inputs += query.inputs

    def end_interval(self, seconds: float) -> None:
        """Compute the rates of an interval that ends now."""
        self.queries_per_s, self.inputs_per_s = self.arrived / seconds, self.arrived_inputs / seconds
        self.arrived = self.arrived_inputs = 0


def shortest(replicas: list[Replica]) -> Replica:
    """Return the replica with the fewest queries; one that computes goes before one that loads.

    Raises:
        ValueError: there is none.
    """
    return min(replicas, key=lambda one: (not one.is_ready, one.queued))
