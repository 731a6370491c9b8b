"""What is sent, and how it ends: each record once, acknowledged or with the error that kept it out."""

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
    """-1 in the rare case that the broker only knows that it has it."""
    timestamp: int = -1
    """Append time by the broker's clock, ms; -1 where the topic keeps the sender's time."""


OnAck: TypeAlias = Callable[[Ack | KafkaError], None]
"""Callback with how a record ended, called once."""


class PendingRecord:
    """A record that is not acknowledged yet."""

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
        """Time of the event loop at which it has failed."""
        self.on_ack: OnAck | None = on_ack
        """None once it was called."""
        self.size = batch_bytes(key, value, headers)
        """Bytes of a batch that holds nothing else, at most."""


def batch_bytes(key: bytes | None, value: bytes | None, headers: RawHeaders) -> int:
    """Bytes of a batch with this record alone, some 15 too many at most."""
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)  # pyright: ignore[reportArgumentType]
