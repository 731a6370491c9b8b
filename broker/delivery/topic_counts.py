"""The number of partitions of topics, as the metadata of a client has it, and news of it."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata

_REFRESH_S: Final = 2.0
"""The longest that a member waits for metadata before it joins: its group waits for it meanwhile."""


class TopicCounts(Protocol):
    """Numbers of partitions of the topics that somebody follows."""

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        """Follow these topics and no others; returns the counts of those that are known."""
        ...

    def known(self, topics: Collection[str]) -> dict[str, int]:
        """Counts of those of these topics that are known."""
        ...

    def refresh(self) -> None:
        """Ask Kafka anew, without waiting for the answer."""
        ...

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a listener called when something may have changed; returns what ends that."""
        ...


class ClientTopicCounts(TopicCounts):
    """Counts in the metadata of a client."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        """Follow these topics and no others; returns the counts of those that are known."""
        self._client.set_topics(topics)
        await asyncio.wait({asyncio.ensure_future(self._client.force_metadata_update())}, timeout=_REFRESH_S)
        return self.known(topics)

    def known(self, topics: Collection[str]) -> dict[str, int]:
        """Counts of those of these topics that are known."""
        found = {topic: self._client.cluster.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    def refresh(self) -> None:
        """Ask Kafka anew, without waiting for the answer."""
        self._client.force_metadata_update()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have a listener called when something may have changed; returns what ends that."""

        def on_metadata(_: ClusterMetadata) -> None:
            listener()

        self._client.cluster.add_listener(on_metadata)
        return lambda: self._client.cluster.remove_listener(on_metadata)
