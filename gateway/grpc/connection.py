"""Connection of a gRPC client: `http2.py` handles the protocol, this module its bytes, calls and time limits.

Flow. `data_received` -> requests -> calls, each in a task -> headers and data -> one write per turn of the event loop.

Bounds.
* A connection that does not begin in time, is silent to a ping, idle, or too old is closed; calls on an old one have
  some time to end.
* What the client may send for a call is bounded by the window of its stream until the call awaits it.
* While the client does not read, nothing is read from it, so that answers to its frames do not accumulate.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, cast

from gateway.grpc.call import Call
from gateway.grpc.header_fields import RawFields
from gateway.grpc.http2 import Http2Code, Http2Error, Http2Server
from gateway.grpc.status import CallEnded
from process.tls import certificate_names

log = logging.getLogger(__name__)

STREAMS: Final = 1000
"""Maximum concurrent calls of one connection; further calls wait at the client."""
_HEADER_BYTES: Final = 16 * 1024
_ALIVE, _CLOSING = b"is alive", b"is going"
"""Payloads of pings."""
_GRPC: Final = "application/grpc"
_NO_GRPC: Final[RawFields] = [(b":status", b"415")]


class ConnectionTimes(NamedTuple):
    """Time limits of a connection, in seconds."""

    begin_s: float
    """Until its first frame, and to answer a ping."""
    silence_s: float
    """Without a frame of the client until it is pinged."""
    idle_s: float
    """Without a call."""
    age_s: float
    grace_s: float
    """For calls on a connection that is too old."""


class _Stream:
    """One stream of a connection, as its call uses it (`CallTransport`)."""

    __slots__ = ("_connection", "_drained", "_number", "call", "pending", "task", "trailers")

    def __init__(self, connection: "GrpcConnection", number: int) -> None:
        self._connection = connection
        self._number = number
        self._drained: asyncio.Event | None = None
        self.call: Call | None = None
        self.task: asyncio.Task[None] | None = None
        self.pending = deque[memoryview]()
        """Data that the client's windows have no room for yet."""
        self.trailers: RawFields | None = None
        """Trailers that follow the pending data."""

    def grant(self, size: int) -> None:
        self._connection.grant(self._number, size)

    def send_headers(self, fields: RawFields, *, last: bool) -> None:
        if self.pending:
            self.trailers = fields
        else:
            self._connection.send_headers(self._number, fields, last=last)

    def send_data(self, data: bytes) -> None:
        self.pending.append(memoryview(data))
        self._connection.send_pending(self._number, self)

    async def drained(self) -> None:
        while self.pending:
            self._drained = asyncio.Event()
            await self._drained.wait()

    def on_sent(self) -> None:
        """Wake a writer, after data was sent or dropped."""
        if self._drained is not None and not self.pending:
            self._drained.set()


class GrpcConnection(asyncio.Protocol):
    """Connection of one client; `serve` handles each call."""

    def __init__(
        self,
        serve: Callable[[Call], Coroutine[Any, Any, None]],
        start: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        admit: Callable[["GrpcConnection"], bool],
        left: Callable[["GrpcConnection"], None],
        times: ConnectionTimes,
        most_bytes: int,
    ) -> None:
        """Make a connection; `admit` and `left` are called when it is open and after its end, `start` starts a task."""
        self._serve = serve
        self._start = start
        self._admit = admit
        self._left = left
        self._times = times
        self._most_bytes = most_bytes
        self._loop = asyncio.get_running_loop()
        self._http2 = Http2Server(self, STREAMS, _HEADER_BYTES)
        self._streams: dict[int, _Stream] = {}
        self._blocked: dict[int, _Stream] = {}
        """Streams with data that waits for windows, or for the transport."""
        self._transport: asyncio.Transport
        self._peer: tuple[str, int] = ("", 0)
        self._certified: tuple[str, ...] = ()
        self._flushing = False
        self._can_write = True
        self._closing_s: float | None = None
        """Time at which the end of the connection was announced; None: it is in use."""
        self._is_last = False
        """True if the client knows of the end, so that no call is on its way."""
        now_s = self._loop.time()
        self._opened_s = self._used_s = self._heard_s = now_s
        self._pinged_s: float | None = None

    # -- protocol of asyncio -------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the connection, or refuse it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport is not a subclass
        self._peer = transport.get_extra_info("peername", ("", 0))[:2]
        self._certified = certificate_names(transport.get_extra_info("peercert"))
        if not self._admit(self):
            self._transport.abort()
            return
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the calls of the client."""
        streams, self._streams = self._streams, {}
        for number, stream in streams.items():
            self._abandon(number, stream)
        self._left(self)

    def data_received(self, data: bytes) -> None:
        """Handle frames."""
        self._heard_s = self._loop.time()
        self._pinged_s = None
        try:
            self._http2.receive(data)
        except Http2Error as error:
            log.debug("a gRPC client broke HTTP/2: %s", error)
            self._close()
        else:
            self._flush()

    def eof_received(self) -> bool:
        """Close the connection."""
        return False

    def pause_writing(self) -> None:
        """Read nothing from a client that does not read."""
        self._can_write = False
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._can_write = True
        if not self._transport.is_closing():
            self._transport.resume_reading()
            self.on_window(0)

    # -- requests of HTTP/2 -------------------------------------------------------------------------------------------
    def on_request(self, stream: int, fields: dict[str, str], *, ended: bool) -> None:
        """Begin a call."""
        if self._is_last:
            self._http2.reset(stream, Http2Code.REFUSED_STREAM)  # the client repeats the call elsewhere
            return
        if not fields.get("content-type", "").startswith(_GRPC) or fields[":method"] != "POST":
            self._http2.send_headers(stream, _NO_GRPC, last=True)
            return
        begun = self._streams[stream] = _Stream(self, stream)
        try:
            call = begun.call = Call(fields, self._peer, self._certified, begun, self._most_bytes)
        except CallEnded as end:
            Call({}, self._peer, (), begun, 0).fail(end)
            return
        if ended:
            call.messages.feed(b"", 0, last=True)
        begun.task = self._start(self._serve(call))

    def on_data(self, stream: int, data: bytes, size: int, *, ended: bool) -> None:
        """Pass data to its call."""
        receiver = self._streams.get(stream)
        if receiver is not None and receiver.call is not None:
            receiver.call.messages.feed(data, size, last=ended)

    def on_reset(self, stream: int) -> None:
        """Cancel a call."""
        cancelled = self._streams.pop(stream, None)
        if cancelled is not None:
            self._abandon(stream, cancelled)

    def on_window(self, stream: int) -> None:
        """Send pending data of a stream, or of all."""
        blocked = [stream] if stream else list(self._blocked)
        for number in blocked:
            if (waiting := self._blocked.get(number)) is not None:
                self.send_pending(number, waiting)

    def on_ping_answered(self, payload: bytes) -> None:
        """Take no more calls if the client knows of the end."""
        if payload == _CLOSING and self._closing_s is not None and not self._is_last:
            self._is_last = True
            self._http2.go_away()
            if self.is_idle:
                self._loop.call_soon(self._close)

    def _abandon(self, number: int, stream: _Stream) -> None:
        self._blocked.pop(number, None)
        stream.pending.clear()
        stream.on_sent()
        if stream.task is not None:
            stream.task.cancel()

    # -- for streams ---------------------------------------------------------------------------------------------------
    def grant(self, number: int, size: int) -> None:
        """Grant the client bytes for a stream."""
        self._http2.grant(number, size)
        self._flush_soon()

    def send_headers(self, number: int, fields: RawFields, *, last: bool) -> None:
        """Send headers or trailers, unless the stream has ended."""
        if number not in self._streams:
            return
        self._http2.send_headers(number, fields, last=last)
        if last:
            del self._streams[number]
            self._used_s = self._loop.time()
            if self._is_last and not self._streams:
                self._loop.call_soon(self._close)
        self._flush_soon()

    def send_pending(self, number: int, stream: _Stream) -> None:
        """Send data of a stream while the windows permit, then its trailers, if it ends."""
        pending = stream.pending
        while pending and self._can_write:
            data = pending.popleft()
            size = self._http2.send_data(number, data)
            if size < len(data):
                pending.appendleft(data[size:])
            if not size:
                break
            self._flush_soon()
        if pending:
            self._blocked[number] = stream
        else:
            self._blocked.pop(number, None)
            stream.on_sent()
            if stream.trailers is not None:
                trailers, stream.trailers = stream.trailers, None
                self.send_headers(number, trailers, last=True)

    # -- bytes ---------------------------------------------------------------------------------------------------------
    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._http2.take()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    # -- the end -------------------------------------------------------------------------------------------------------
    @property
    def is_idle(self) -> bool:
        """True without a call."""
        return not self._streams

    def look(self, now_s: float) -> None:
        """Close the connection, or ping the client, if its time has come; called each second."""
        times = self._times
        if not self._http2.has_settings:
            if now_s >= self._opened_s + times.begin_s:
                self._transport.abort()
        elif self._pinged_s is not None:
            if now_s >= self._pinged_s + times.begin_s:
                self._transport.abort()
        elif self._closing_s is not None:
            if now_s >= self._closing_s + times.grace_s:
                self._transport.abort()
        elif now_s >= self._opened_s + times.age_s or (self.is_idle and now_s >= self._used_s + times.idle_s):
            self.stop()
        elif now_s >= self._heard_s + times.silence_s:
            self._pinged_s = now_s
            self._http2.ping(_ALIVE)
            self._flush()

    def stop(self) -> None:
        """Tell the client to open another connection, and close this one after its last call.

        Calls that are on their way are served: the client answers a ping only after it has read the announcement.
        """
        if self._closing_s is not None or self._transport.is_closing():
            return
        self._closing_s = self._pinged_s = self._loop.time()
        self._http2.go_away(soon=True)
        self._http2.ping(_CLOSING)
        self._flush()

    def abort(self) -> None:
        """Close the connection at once; its calls are cancelled."""
        self._transport.abort()

    def _close(self) -> None:
        self._flush()
        self._transport.close()
