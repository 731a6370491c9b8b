"""Partitions of the variants' topics, with the queries in them that no worker has fetched.

Mutable records; times are seconds of the monotonic clock that callers pass.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.status import PartitionStatus

_SMOOTHING: Final = 0.1
_MOST_LARGE: Final = 256
_QUIET_S: Final = 2.0
"""Seconds without a send after which an empty partition may have been created again, with a lower end."""


@dataclass(slots=True, eq=False)
class Partition:
    """One partition of a variant's online or offline topic."""

    number: int
    offline: bool
    """True if it belongs to the offline topic."""
    end: int = -1
    """Offset after the last known record; -1 is unknown."""
    position: int = -1
    """Offset of the next record that its worker will fetch; -1 is unknown."""
    unacked: int = 0
    """Queries that this selector has sent and the broker has not acknowledged."""
    unacked_large: int = 0
    """Inputs of the large queries among these."""
    large: dict[int, int] = field(default_factory=dict[int, int])
    """Inputs, by offset, of large queries of this selector that its worker had not fetched by its last status."""
    acked_at: float = 0.0
    """Time of the last acknowledged query of this selector."""
    mean_inputs: float = 1.0
    """Mean inputs of a query that is not large, smoothed over this selector's sends."""

    def take_status(self, owned: PartitionStatus, idle: bool, now: float) -> float:
        """Set the offsets from the worker's status, `idle` if its instance holds no query; return `unread_inputs`."""
        position, end = owned.position, owned.end
        if idle and end <= position and not self.unacked and now - self.acked_at > _QUIET_S:
            self.end = position
        else:
            self.end = max(self.end, end, position)
        self.position = position
        if self.large:
            self.large = {offset: inputs for offset, inputs in self.large.items() if offset >= position}
        return (self.end - position + self.unacked) * self.mean_inputs

    def unread_inputs(self) -> float:
        """Return the estimated inputs that no worker has fetched; a large query counts as a mean one."""
        return (max(self.end - self.position, 0) + self.unacked) * self.mean_inputs

    def count_send(self, inputs: int, large: bool) -> None:
        """Count a query as sent to the broker."""
        self.unacked += 1
        if large:
            self.unacked_large += inputs
        else:
            self.mean_inputs += _SMOOTHING * (inputs - self.mean_inputs)

    def count_ack(self, offset: int | None, large_inputs: int, queries: int = 1) -> None:
        """Count queries as written from `offset` on, or as not written (None); `large_inputs` are of a large one."""
        self.unacked -= queries
        self.unacked_large -= large_inputs
        if large_inputs and offset is not None and len(self.large) < _MOST_LARGE:
            self.large[offset] = large_inputs


class Unread(NamedTuple):
    """Queries of some partitions that no worker has fetched."""

    inputs: float
    """Estimated inputs; a large query counts as a mean one."""
    large_inputs: int
    """Inputs of this selector's large queries."""
    mean_inputs: float
    """Largest mean inputs of a query."""


def take_offsets(partitions: Iterable[Partition], owned: Iterable[PartitionStatus], idle: bool, now: float) -> Unread:
    """Set offsets from a worker's status, `idle` if the instance holds no query; return the unread queries."""
    inputs, large_inputs, mean_inputs = 0.0, 0, 1.0
    for partition, reported in zip(partitions, owned, strict=True):
        inputs += partition.take_status(reported, idle, now)
        mean_inputs = max(mean_inputs, partition.mean_inputs)
        if partition.unacked_large or partition.large:
            large_inputs += partition.unacked_large + sum(partition.large.values())
    return Unread(inputs, large_inputs, mean_inputs)
