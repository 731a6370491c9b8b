"""Connection to Kafka over which any number of readers read: one client, and one request for what all of them read.

A worker reads the online queries of all its instances over one, and the offline ones over another: what is written at
once comes at once, not each when its own request is answered, and an idle instance asks for nothing.
"""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Self

from broker.client import connect_client
from broker.fetch.fetcher import Fetcher
from broker.fetch_pace import FetchPace
from broker.settings import KafkaSettings

if TYPE_CHECKING:
    from aiokafka.client import AIOKafkaClient


class ReadConnection:
    """Client and fetcher that readers share; an async context manager, open for longer than they are."""

    client: "AIOKafkaClient"
    fetcher: Fetcher

    def __init__(self, settings: KafkaSettings, client_id: str, pace: FetchPace | None = None) -> None:
        """`pace` is how eagerly it reads, if not as usual."""
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.cancel()
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self.client.close()
