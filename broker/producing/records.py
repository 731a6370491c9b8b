"""Records to be sent and their outcomes: each record ends once, acknowledged or with an error."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from aiokafka.errors import KafkaError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.headers import RawHeaders


class Ack(NamedTuple):
    """Place where a record was written."""

    topic: str
    partition: int
    offset: int
    """-1 in the rare case that the broker only knows that it has the record."""
    timestamp: int = -1
    """Append time in milliseconds by the broker's clock; -1 if the topic keeps the sender's time."""


OnAck: TypeAlias = Callable[[Ack | KafkaError], None]
"""Callback with the outcome of a record; called once."""


class PendingRecord:
    """Record that is not acknowledged yet."""

    __slots__ = ("deadline", "headers", "key", "on_ack", "size", "timestamp_ms", "value")

    def __init__(
        self,
        value: bytes | None,
        key: bytes | None,
        headers: RawHeaders,
        timestamp_ms: int,
        deadline: float,
        on_ack: OnAck,
    ) -> None:
        self.value = value
        self.key = key
        self.headers = headers
        self.timestamp_ms = timestamp_ms
        self.deadline = deadline
        """Event-loop time at which the record fails."""
        self.on_ack: OnAck | None = on_ack
        """None once it was called."""
        self.size = batch_bytes(key, value, headers)
        """Largest number of bytes of a batch that holds nothing else."""


def batch_bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Return the bytes of a batch with this record alone; at most some 15 too many."""
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)  # pyright: ignore[reportArgumentType]
