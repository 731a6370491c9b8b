"""How long the broker may hold a fetch: short while records come, long once none has come for a while.

Most consumers of a system are idle, and each fetch that ends empty costs both sides. Apache Kafka answers a held fetch
as soon as there is a record, so a longer wait makes no answer slower; the embedded broker does not, so there the first
record after an idle while comes late by up to the longer wait.

What a longer wait would hold up is what is asked on the same connection meanwhile: above all the next fetch, when other
partitions are to be read. Who changes them has to `interrupt` the fetch under way first.
"""

import time
from collections.abc import Collection
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import ConnectionGroup

from broker.kafka_types import Record
from broker.settings import KafkaSettings

IDLE_FACTOR: Final = 20
"""The longer wait over the shorter one, which is 500 ms on Apache Kafka and 10 ms on the embedded broker."""
LONGEST_MS: Final = 5_000
_IDLE_AFTER_MS: Final = 2_000
_LAZY_AFTER_MS: Final = 250
_POLL_MS: Final = 10_000
_LOOK_S: Final = 0.2
_IDLE_LOOK_S: Final = 5.0
"""How often aiokafka looks by itself for something to fetch. It is woken when there is, but not if a fetch ends in the
very turn of the event loop in which something else wakes it; which does not happen to who is idle."""


class FetchPace:
    """Reads one consumer after another, and sets how long each of their fetches may wait."""

    def __init__(
        self, settings: KafkaSettings, *, factor: int = IDLE_FACTOR, longest_ms: int = LONGEST_MS,
        shortest_ms: int | None = None, lazy: bool = False,
    ) -> None:  # fmt: skip
        """`lazy`: records that come now and then are no reason to hurry, only those that come one upon the other.

        `shortest_ms`, if less than what the settings say, is how long a fetch of partitions without records may hold up
        that of those which have some.
        """
        self._short_ms = settings.fetch_max_wait_ms
        longest_ms = min(factor * self._short_ms, longest_ms, settings.request_timeout_ms // 2)
        self._short_ms = self._short_ms if shortest_ms is None else min(self._short_ms, shortest_ms)
        self.long_ms = max(self._short_ms, longest_ms)
        """How long a fetch is held while nothing comes."""
        self._idle_after_ms = _LAZY_AFTER_MS if lazy else _IDLE_AFTER_MS
        self._lazy = lazy
        self._idle = False
        self._found_s = 0.0

    async def poll(
        self, consumer: AIOKafkaConsumer, max_records: int | None = None, partitions: Collection[TopicPartition] = ()
    ) -> dict[TopicPartition, list[Record]]:
        """What has come, of all partitions or of these, perhaps nothing after a while.

        Raises:
            KafkaError: as aiokafka's `getmany`.
        """
        timeout_ms = _POLL_MS if self._idle else self._idle_after_ms
        found = await consumer.getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        was_idle = self._idle
        self._note(bool(found), time.monotonic())
        fetcher: Any = consumer._fetcher  # pyright: ignore[reportPrivateUsage] - there is no other way
        fetcher._fetch_max_wait_ms = self.long_ms if self._idle else self._short_ms
        fetcher._fetcher_timeout = _IDLE_LOOK_S if self._idle and not self._lazy else _LOOK_S
        if was_idle and not self._idle:
            # If we came late for what was found, the next fetch was sent without the partitions that it is of.
            interrupt(consumer)
        return found

    def _note(self, found: bool, now_s: float) -> None:
        if not found:
            self._idle = True
            return
        if not self._lazy or now_s - self._found_s < self._idle_after_ms / 1000:
            self._idle = False
        self._found_s = now_s


def interrupt(consumer: AIOKafkaConsumer) -> None:
    """End the fetches under way, and the connections on which the broker holds them; others are begun by themselves.

    What they are to heed has to be changed before the event loop has its next turn.
    """
    fetcher: Any = consumer._fetcher  # pyright: ignore[reportPrivateUsage] - there is no other way
    client: Any = consumer._client  # pyright: ignore[reportPrivateUsage]
    fetcher._fetcher_timeout = _LOOK_S
    for task in fetcher._pending_tasks:
        task.cancel()
    for node in fetcher._in_flight:
        connection = client._conns.get((node, ConnectionGroup.DEFAULT))
        if connection is not None:
            connection.close()
