"""Proxy in front of a broker's bootstrap address; when closed, it refuses new connections and keeps existing ones."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from broker.settings import KafkaSettings


class Entrance:
    """Bootstrap server of clients; the metadata then directs them to the broker itself."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._host, _, port = kafka.bootstrap.rpartition(":")
        self._port = int(port)
        self.open = True
        self.refused = asyncio.Event()
        """Set when a connection was refused."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward bytes of one client to the broker and back."""
        if not self.open:
            writer.close()
            self.refused.set()
            return
        back, forth = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pass_on(reader, forth))
                tasks.create_task(pass_on(back, writer))
        except* OSError:
            pass


async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Forward bytes until the source ends, then close the sink."""
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


@asynccontextmanager
async def entrance(kafka: KafkaSettings) -> AsyncGenerator[tuple[Entrance, KafkaSettings]]:
    """Run an entrance to this broker; yield it with the settings of its clients."""
    one = Entrance(kafka)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield one, kafka.model_copy(update={"bootstrap": f"{host}:{port}"})
        server.close()
