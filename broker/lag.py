"""Consumer lag: how far groups are behind, in records and in seconds.

Unknown is None, which is not zero: a reader that took an unanswered question for an empty queue would scale to nothing.
A group that never committed is behind from the earliest record on. The seconds are the age of the oldest record not
committed; its timestamp is read from the log, which costs one small fetch, and only where the lag is not zero.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Self

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from broker.client import client_options, new_consumer, reach
from broker.settings import KafkaSettings

log = logging.getLogger(__name__)

READ_S = 5.0


class PartitionLag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition as a group sees it."""

    group: str
    topic: str
    partition: int
    end: int
    """Offset of the next record to be written."""
    committed: int | None
    """None: never, or unknown; then `lag` says which."""
    lag: int | None
    """Records."""
    lag_s: float | None
    """Age of the oldest record not committed; 0 when there is none."""
