"""aiokafka types that other packages may import: records, partitions, errors."""

from typing import Final, TypeAlias

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import (
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

from broker.producing.verdict import InvalidRecord, UnsupportedCompression

__all__ = [
    "APPEND_TIME",
    "NOT_ACKNOWLEDGED",
    "REFUSED_BY_TOPIC",
    "KafkaError",
    "NotAllowed",
    "Record",
    "RecordTooLarge",
    "TopicClosed",
    "TopicPartition",
    "UnknownTopic",
]

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]
"""Record as read: `topic`, `partition`, `offset`, `timestamp` (ms), `key`, `value` and `headers`."""

APPEND_TIME: Final = 1
"""`timestamp_type` of a record with the broker's append time; other records carry the time of their sender's clock."""

UnknownTopic = UnknownTopicOrPartitionError
"""The topic or partition does not exist; a retry does not help."""

NotAllowed = TopicAuthorizationFailedError
"""This client may not use the topic; a retry does not help until access is granted."""

NOT_ACKNOWLEDGED: Final = (KafkaTimeoutError, ProducerClosed)
"""Errors for a record that Kafka did not answer before the record's timeout or the end of the producer."""

REFUSED_BY_TOPIC: Final = (
    InvalidRecord, InvalidTimestampError, InvalidTopicError, PolicyViolationError, UnsupportedCompression,
    UnsupportedForMessageFormatError,
)  # fmt: skip
"""The topic's configuration refuses the record: nothing was written, and a retry does not help."""

RecordTooLarge = MessageSizeTooLargeError
"""The record is larger than `KafkaSettings.max_record_bytes`."""


class TopicClosed(UnknownTopic):
    """The topic is about to be deleted and accepts no more records; see `broker.closed_topics`."""
