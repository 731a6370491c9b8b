"""A record as read from Kafka."""

from typing import TypeAlias

from aiokafka import ConsumerRecord

Record: TypeAlias = ConsumerRecord[bytes | None, bytes | None]
"""With `topic`, `partition`, `offset`, `timestamp` (ms), `key`, `value` and `headers`."""
