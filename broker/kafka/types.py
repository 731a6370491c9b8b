"""Records as read, and aiokafka's types that other packages may import: partitions, errors."""

from collections.abc import Sequence
from typing import Final

import msgspec
from aiokafka import TopicPartition
from aiokafka.errors import (
    BrokerResponseError,
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    ProducerClosed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedForMessageFormatError,
)

__all__ = [
    "APPEND_TIME",
    "NOT_ACKNOWLEDGED",
    "REFUSED_BY_TOPIC",
    "InvalidRecord",
    "KafkaError",
    "NotAllowed",
    "Record",
    "RecordTooLarge",
    "TopicClosed",
    "TopicPartition",
    "UnknownTopic",
    "UnsupportedCompression",
    "record_bytes",
]


class Record(msgspec.Struct, frozen=True, gc=False):
    """Record as read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    """Milliseconds since the epoch."""
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


APPEND_TIME: Final = 1
"""`timestamp_type` of a record with the broker's append time; other records carry the time of their sender's clock."""

UnknownTopic = UnknownTopicOrPartitionError
"""The topic or partition does not exist; a retry does not help."""

NotAllowed = TopicAuthorizationFailedError
"""This client may not use the topic; a retry does not help until access is granted."""

NOT_ACKNOWLEDGED: Final = (KafkaTimeoutError, ProducerClosed)
"""Errors for a record that Kafka did not answer before the record's timeout or the end of the producer."""


class InvalidRecord(BrokerResponseError):
    """The topic refuses a record of the batch, for example one without a key in a compacted topic."""

    errno = 87
    message = "INVALID_RECORD"


class UnsupportedCompression(BrokerResponseError):
    """The topic does not accept the batch's compression."""

    errno = 76
    message = "UNSUPPORTED_COMPRESSION_TYPE"


REFUSED_BY_TOPIC: Final = (
    InvalidRecord, InvalidTimestampError, InvalidTopicError, PolicyViolationError, UnsupportedCompression,
    UnsupportedForMessageFormatError,
)  # fmt: skip
"""The topic's configuration refuses the record: nothing was written, and a retry does not help."""

RecordTooLarge = MessageSizeTooLargeError
"""The record is larger than `KafkaSettings.max_record_bytes`."""


class TopicClosed(UnknownTopic):
    """The topic is about to be deleted and accepts no more records; see `broker.producing.closed_topics`."""


def record_bytes(record: Record) -> int:
    """Return the size of a record's key, value and headers, in bytes."""
    size = len(record.key or b"") + len(record.value or b"")
    for name, text in record.headers:
        size += len(name) + len(text or b"")
    return size
