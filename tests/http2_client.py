"""gRPC client that can stop in the middle of a call or message; it sends HTTP/2 frame by frame with h2."""

import asyncio
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamReset, TrailersReceived

from tests.waiting import PATIENCE_S, until


class Http2Client:
    """HTTP/2 connection to a gRPC server.

    `told` holds the received headers and trailers, `messages` the received bytes, both by stream. `reset` holds the
    streams that the server reset. `gone` is true after the connection has ended.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._flush()
        self.told: dict[int, dict[str, str]] = {}
        self.messages: dict[int, bytes] = {}
        self.reset = set[int]()
        self.gone = False

    def call(self, path: str, metadata: Mapping[str, str] = {}) -> int:
        """Open a call without a message; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x"}
        more = {"te": "trailers", "content-type": "application/grpc", **metadata}
        self._h2.send_headers(stream, list((fields | more).items()))
        self._flush()
        return stream

    def send(self, stream: int, content: bytes, announced: int | None = None, *, last: bool = False) -> None:
        """Send the beginning of a message, or all of it; `announced` is the size in its prefix."""
        size = len(content) if announced is None else announced
        self._h2.send_data(stream, struct.pack(">BI", 0, size) + content, end_stream=last)
        self._flush()

    async def end_of(self, stream: int) -> str:
        """Wait until a call has ended; return its status code and message."""
        await until(lambda: self.gone or stream in self.reset or "grpc-status" in self.told.get(stream, {}))
        return self.status(stream)

    def status(self, stream: int) -> str:
        """Return the status code and message of a call; empty while it runs."""
        told = self.told.get(stream, {})
        return f"{told['grpc-status']} {told.get('grpc-message', '')}" if "grpc-status" in told else ""

    async def follow(self) -> None:
        """Receive events until the connection ends."""
        while received := await self._received():
            for event in self._h2.receive_data(received):
                match event:
                    case (
                        ResponseReceived(stream_id=int(stream), headers=fields)
                        | TrailersReceived(stream_id=int(stream), headers=fields)
                    ):
                        self.told.setdefault(stream, {}).update({str(name): str(text) for name, text in fields or ()})
                    case DataReceived(stream_id=int(stream), data=bytes(content)):
                        self.messages[stream] = self.messages.get(stream, b"") + content
                    case StreamReset(stream_id=int(stream)):
                        self.reset.add(stream)
                    case ConnectionTerminated():
                        self.gone = True
                    case _:
                        pass
            self._flush()
        self.gone = True

    async def _received(self) -> bytes:
        try:
            return await self._reader.read(65536)
        except ConnectionError:
            return b""

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())


@asynccontextmanager
async def http2_client(port: int) -> AsyncGenerator[Http2Client]:
    """Open a connection to a port of loopback; abort it when the context ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = Http2Client(reader, writer)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        following = tasks.create_task(client.follow())
        try:
            yield client
        finally:
            following.cancel()
            writer.transport.abort()
