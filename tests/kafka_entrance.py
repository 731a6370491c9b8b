"""The first way to a broker, which can be closed: a client that is connected goes on, a new one finds nobody."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from broker.settings import KafkaSettings


class Entrance:
    """Server that clients ask first; the broker then names itself to them."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._host, _, port = kafka.bootstrap.rpartition(":")
        self._port = int(port)
        self.open = True
        self.refused = asyncio.Event()
        """Set when a client found nobody."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client says, and what the broker answers."""
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
    """Hand on what comes until it ends, and the end."""
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


@asynccontextmanager
async def entrance(kafka: KafkaSettings) -> AsyncGenerator[tuple[Entrance, KafkaSettings]]:
    """An entrance to this broker, and the settings of those who use it."""
    one = Entrance(kafka)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    async with server:
        yield one, kafka.model_copy(update={"bootstrap": f"{host}:{port}"})
        server.close()
