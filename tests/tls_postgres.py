"""TLS proxy in front of Postgres, because the Postgres build from PyPI has no TLS."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from tests.kafka_entrance import pass_on

_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_HOST: Final = "127.0.0.1"


@asynccontextmanager
async def encrypted(dsn: str, certificate: Path, key: Path, authority: Path, passfile: Path) -> AsyncGenerator[str]:
    """Run the proxy; yield the DSN of the same database by TLS, with the password in `passfile`."""
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
    _write(passfile, f"{_HOST}:{port}:{database}:{behind.username}:{unquote(behind.password or '')}\n")
    async with server:
        yield (
            f"postgresql://{behind.username}@{_HOST}:{port}/{database}"
            f"?sslmode=verify-full&sslrootcert={authority}&passfile={passfile}"
        )
        server.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


def _write(passfile: Path, line: str) -> None:
    passfile.touch(0o600)
    passfile.write_text(line)
