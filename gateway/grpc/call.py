"""Call of a gRPC method: its metadata, deadline and messages, and its end.

Messages of the client are received only while one is awaited: until then HTTP/2's window for the stream bounds them.
"""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Protocol, Self

import grpc

from gateway.grpc.header_fields import RawFields
from gateway.grpc.message_parser import ACCEPTED, IDENTITY, MessageParser, prefixed
from gateway.grpc.status import CallEnded, error_trailers, ok_trailers

_TIMEOUT: Final = "grpc-timeout"
_ENCODING: Final = "grpc-encoding"
_UNITS_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_TIMEOUT_FORMAT: Final = re.compile(r"(\d{1,8})([HMSmun])")
_FIRST_BYTES_S: Final = 0.1
_OWN_PREFIXES: Final = (":", "grpc-")
_OWN: Final = frozenset({"te", "content-type"})
_GRANTED_FROM: Final = 16 * 1024
"""Bytes that are granted at once: a quarter of a stream's window."""
_HEAD: Final[RawFields] = [(b":status", b"200"), (b"content-type", b"application/grpc")]


class CallTransport(Protocol):
    """Stream of a connection, as a call uses it; nothing is sent on a stream that has ended."""

    def grant(self, size: int) -> None:
        """Let the client send `size` further bytes."""
        ...

    def send_headers(self, fields: RawFields, *, last: bool) -> None:
        """Send headers or trailers; `last` ends the call."""
        ...

    def send_data(self, data: bytes) -> None:
        """Send data once the client's windows have room for it, in order with the trailers."""
        ...

    async def drained(self) -> None:
        """Wait until all data is sent. Returns also when the stream has ended."""
        ...


class IncomingMessages:
    """Messages that the client of a call sends; an async iterator for one reader."""

    def __init__(self, parser: MessageParser, transport: CallTransport) -> None:
        self._parser = parser
        self._transport = transport
        self._not_granted = 0
        """Received bytes that the client may not send again yet."""
        self._begun = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    def feed(self, data: bytes, size: int, *, last: bool) -> None:
        """Add received bytes, which took `size` bytes of the window; `last` ends the messages."""
        if data:
            self._parser.feed(data)
        self._not_granted += size
        self._begun = True
        self._ended |= last
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            message = self._parser.next()
            if message is not None:
                return message
            if self._ended:
                if self._parser.is_empty:
                    raise StopAsyncIteration
                raise CallEnded(grpc.StatusCode.INTERNAL, "the call has ended within a message")
            if self._not_granted >= _GRANTED_FROM:
                self._transport.grant(self._not_granted)
                self._not_granted = 0
            await self._wait()

    async def begun(self) -> None:
        """Wait for the first bytes of the client, but not for long; nobody reads meanwhile.

        grpc.aio reports its own failed write instead of our status if a call ends before it has sent a message.
        """
        if not self._begun:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_BYTES_S):
                    await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


class Call:
    """Call of a method. It ends once, by `finish`, `fail`, or its client."""

    def __init__(
        self, fields: Mapping[str, str], peer: tuple[str, int], certified: tuple[str, ...],
        transport: CallTransport, most_bytes: int,
    ) -> None:  # fmt: skip
        """Begin a call.

        Args:
            fields: header fields of the request, without binary ones.
            peer: address and port of the client.
            certified: names in the client's certificate.
            transport: its stream.
            most_bytes: largest size of a message.

        Raises:
            CallEnded: a header field is invalid.
        """
        self.path: Final = fields.get(":path", "")
        """Service and method, as `/service/method`."""
        self.metadata: Final = {
            name: text for name, text in fields.items() if name not in _OWN and not name.startswith(_OWN_PREFIXES)
        }
        """Header fields of the client, without those of HTTP/2 and gRPC."""
        self.peer: Final = peer
        self.certified: Final = certified
        self.trailing: Mapping[str, str] = {}
        """Metadata in the trailers of a successful call."""
        self.deadline_s: Final = _deadline_s(fields.get(_TIMEOUT))
        """Time of the event loop at which the client gives up; None: unknown."""
        self._transport = transport
        self._has_head = False
        self._has_ended = False
        self.messages: Final = IncomingMessages(MessageParser(_encoding(fields), most_bytes), transport)

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None: there is none."""
        return None if self.deadline_s is None else self.deadline_s - asyncio.get_running_loop().time()

    async def write(self, message: bytes) -> None:
        """Send a message, and wait until it is sent."""
        self._send(message)
        await self._transport.drained()

    def finish(self, message: bytes | None = None) -> None:
        """End the call with success, after a last message if there is one."""
        if message is not None:
            self._send(message)
        self._end(ok_trailers(self.trailing))

    def fail(self, end: CallEnded) -> None:
        """End the call with an error, unless it has ended."""
        self._end(error_trailers(end))

    def _send(self, message: bytes) -> None:
        self._begin()
        self._transport.send_data(prefixed(message))

    def _begin(self) -> None:
        if not self._has_head:
            self._has_head = True
            self._transport.send_headers(_HEAD, last=False)

    def _end(self, trailers: RawFields) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._transport.send_headers(trailers if self._has_head else [*_HEAD, *trailers], last=True)


def _deadline_s(timeout: str | None) -> float | None:
    if timeout is None:
        return None
    found = _TIMEOUT_FORMAT.fullmatch(timeout)
    if found is None:
        raise CallEnded(grpc.StatusCode.INTERNAL, f"the header {_TIMEOUT} is no time: {timeout[:20]!r}")
    return asyncio.get_running_loop().time() + int(found[1]) * _UNITS_S[found[2]]


def _encoding(fields: Mapping[str, str]) -> str:
    encoding = fields.get(_ENCODING, IDENTITY)
    if encoding not in ACCEPTED.split(","):
        words = f"messages cannot be encoded as {encoding[:20]!r}, but as {ACCEPTED}"
        raise CallEnded(grpc.StatusCode.UNIMPLEMENTED, words, {"grpc-accept-encoding": ACCEPTED})
    return encoding
