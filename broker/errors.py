"""The errors of Kafka that others meet, under names they may import."""

from aiokafka.errors import KafkaError, MessageSizeTooLargeError, UnknownTopicOrPartitionError

__all__ = ["KafkaError", "RecordTooLarge", "UnknownTopic"]

UnknownTopic = UnknownTopicOrPartitionError
"""The topic, or the partition of it, does not exist: trying again will not help."""

RecordTooLarge = MessageSizeTooLargeError
"""The record exceeds `KafkaSettings.max_record_bytes`."""
