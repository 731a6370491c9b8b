"""Types of aiokafka that other packages meet, under names that they may import: records, partitions, errors."""

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
"""A record as it was read, with `topic`, `partition`, `offset`, `timestamp` (ms), `key`, `value` and `headers`."""

APPEND_TIME: Final = 1
"""`timestamp_type` of a record whose timestamp is when the broker appended it; else its sender's clock gave it."""

UnknownTopic = UnknownTopicOrPartitionError
"""The topic, or the partition of it, does not exist: trying again will not help."""

NotAllowed = TopicAuthorizationFailedError
"""We may not use the topic: trying again will not help until somebody allows it."""

NOT_ACKNOWLEDGED: Final = (KafkaTimeoutError, ProducerClosed)
"""What a producer says of a record of which Kafka said nothing for its whole time, or until we left."""

REFUSED_BY_TOPIC: Final = (
    InvalidRecord, InvalidTimestampError, InvalidTopicError, PolicyViolationError, UnsupportedCompression,
    UnsupportedForMessageFormatError,
)  # fmt: skip
"""The topic, as it is configured, does not take the record: trying again will not help. Nothing was written."""

RecordTooLarge = MessageSizeTooLargeError
"""The record exceeds `KafkaSettings.max_record_bytes`."""


class TopicClosed(UnknownTopic):
    """The topic is about to be deleted and takes nothing more, see `broker.closed_topics`."""
