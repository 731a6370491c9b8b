"""Proxies: in front of a broker's bootstrap address, and in front of Postgres for TLS.

The first, when closed, refuses new connections and keeps existing ones. The second is needed because the Postgres build
from PyPI has no TLS.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from broker.kafka.settings import KafkaSettings
from tests.doc_commands import block, exported

_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_HOST: Final = "127.0.0.1"


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


@asynccontextmanager
async def encrypted(dsn: str, certificate: Path, key: Path, authority: Path, folder: Path) -> AsyncGenerator[str]:
    """Run the proxy; yield the DSN of the same database by TLS, with the password in a file of a folder.

    Both are made by the commands of `docs/security.md`.
    """
    behind = urlsplit(dsn)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    served = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(len(_SSL_REQUEST)) != _SSL_REQUEST:
            return
        writer.write(b"S")
        await writer.start_tls(context)
        back, forth = await asyncio.open_connection(behind.hostname, behind.port)
        with closing(forth):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pass_on(reader, forth))
                tasks.create_task(pass_on(back, writer))

    async def serve_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        with closing(writer):
            try:
                await serve(reader, writer)
            except* (OSError, EOFError):
                pass
        served.discard(task)

    server = await asyncio.start_server(serve_and_close, _HOST, 0)
    port, database = server.sockets[0].getsockname()[1], behind.path.removeprefix("/")
    user, password = behind.username or "", unquote(behind.password or "")
    own = {
        "infaas@db.example:5432/infaas": f"{user}@{_HOST}:{port}/{database}",
        "db.example:5432:infaas:infaas:PASSWORD": f"{_HOST}:{port}:{database}:{user}:{password}",
        "ca.pem": str(authority),
        "passfile=pgpass": f"passfile={folder / 'pgpass'}",
    }
    async with server:
        yield exported(block("docs/security.md#6"), folder, own)["INFAAS_POSTGRES"]
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
