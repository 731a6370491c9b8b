"""Connection to Kafka that any number of readers share: one client, and one fetch request for all of them.

A worker reads the online queries of all its instances over one connection, and the offline ones over another. Records
that were written together arrive together, and an idle instance causes no requests.
"""

import asyncio
from typing import TYPE_CHECKING, Self

from broker.fetch.fetch_request import FetchPace
from broker.fetch.fetcher import Fetcher
from broker.kafka.client import connect_client
from broker.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient


class ReadConnection:
    """Client and fetcher that readers share; an async context manager, open for longer than the readers."""

    client: "AIOKafkaClient"
    fetcher: Fetcher

    def __init__(self, settings: KafkaSettings, client_id: str, pace: FetchPace | None = None) -> None:
        """Use `pace` for the wait of fetches; None: that of the settings."""
        self._settings = settings
        self._client_id = client_id
        self._pace = pace or FetchPace(settings)
        self._tasks = asyncio.TaskGroup()
        self._reading: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self.client = await connect_client(self._settings, self._client_id)
        self.fetcher = Fetcher(self.client, self._pace)
        await self._tasks.__aenter__()
        self._reading = self._tasks.create_task(self.fetcher.run(), name=f"read {self._client_id}")
        return self

    async def __aexit__(self, *error: object) -> None:
        self._reading.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self.client.close()
