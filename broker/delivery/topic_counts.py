"""Numbers of partitions of topics in the metadata of a client, and notice of changes."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata

_REFRESH_S: Final = 2.0
"""Longest time in seconds that a member waits for metadata before it joins: its group waits for it meanwhile."""


class TopicCounts(Protocol):
    """Numbers of partitions of the topics that a member follows."""

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        """Follow exactly these topics; return the numbers of partitions of the known ones."""
        ...

    def known(self, topics: Collection[str]) -> dict[str, int]:
        """Return the numbers of partitions of those topics that are known."""
        ...

    def refresh(self) -> None:
        """Request new metadata from Kafka, without waiting for it."""
        ...

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener whenever the metadata may have changed; return a function that ends this."""
        ...


class ClientTopicCounts(TopicCounts):
    """Numbers of partitions in the metadata of a client."""

    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client

    async def follow(self, topics: Collection[str]) -> dict[str, int]:
        """Follow exactly these topics; return the numbers of partitions of the known ones."""
        self._client.set_topics(topics)
        await asyncio.wait({asyncio.ensure_future(self._client.force_metadata_update())}, timeout=_REFRESH_S)
        return self.known(topics)

    def known(self, topics: Collection[str]) -> dict[str, int]:
        """Return the numbers of partitions of those topics that are known."""
        found = {topic: self._client.cluster.partitions_for_topic(topic) for topic in topics}
        return {topic: len(partitions) for topic, partitions in found.items() if partitions}

    def refresh(self) -> None:
        """Request new metadata from Kafka, without waiting for it."""
        self._client.force_metadata_update()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call a listener whenever the metadata may have changed; return a function that ends this."""

        def on_metadata(_: ClusterMetadata) -> None:
            listener()

        self._client.cluster.add_listener(on_metadata)
        return lambda: self._client.cluster.remove_listener(on_metadata)
