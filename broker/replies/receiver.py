"""Receiver of reply streams: listens for results of requests of this process.

Rules.
* A stranger is a connection that has not yet proved that it knows the token. There are few places for strangers. If all
  are taken, nobody else is admitted until the oldest stranger has had its place for `STRANGER_S`; then it is closed. A
  sender with the token needs a few milliseconds, and new connections wait in the order of their arrival. So strangers
  that stay silent, or connect again and again, block no other connection.
* A connection takes its place when it is accepted, before its TLS handshake. So a connection that never answers is
  limited in number and time like all others.
* A sender keeps its place while it sends data: it sends a keepalive if it has no results.
* If there is no place for another sender, the one whose last result is oldest is closed; one without a result goes
  first. So connections that are never used block no other connection. If all were used within `IN_USE_S`, the new one
  is refused. The senders of one address have a share of the places.
* Results are read only from senders that know the token. A result is acknowledged once `on_result` has returned: all
  results read at once by one number. Parts alone, of which an answer has one for each token, are acknowledged
  `PARTS_S` later, all by one number. A keepalive is answered by the same number as before.
* If nobody waits for a part of a result, the sender learns that at once, so that it can stop the computation.
* Invalid data closes the connection; results without an acknowledgement then come by the topic.

Hot: `ReceiverConnection.data_received`.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, Protocol, Self, TypeAlias, TypeVar, cast

from broker.kafka.settings import ReplyStreamSettings
from broker.replies.address import ReceiverTls, StreamAddress, new_receiver_tls
from broker.replies.protocol import (
    HELLO_BYTES,
    PROOF_BYTES,
    challenge,
    check_sender,
    new_token,
    pack_ack,
    pack_unwanted,
    take_frames,
)
from process.errors import listen_words
from schemas.errors import OperatorError
from schemas.headers import PART, RawHeaders

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 2.0
"""Seconds within which a sender must authenticate, TLS included."""
_BACKLOG: Final = 1024
"""Connections that may wait for a place."""
_PAUSE_S: Final = 0.5
_ACCEPTED_AT_ONCE: Final = 4
"""Connections accepted in one pass of the event loop: if all wait for places, a stranger keeps its own for 32 passes.

A handshake with TLS needs a dozen, however long a pass takes.
"""
MAX_STRANGERS: Final = 128
STRANGER_S: Final = 0.1
"""Seconds that a stranger keeps its place while others wait for one."""
MAX_SENDERS: Final = 1024
MAX_SENDERS_OF_ADDRESS: Final = 256
IN_USE_S: Final = 10.0
"""Seconds after its last result for which a sender keeps its place."""
SILENT_S: Final = 45.0
"""Seconds without data after which a sender counts as gone; it sends three keepalives in that time."""

PARTS_S: Final = 0.1
"""Seconds for which parts wait for their acknowledgement; much less than the sender's patience."""

OnResult: TypeAlias = Callable[[RawHeaders, bytes], bool | None]
"""Callback with the headers and value of a result or a part; raises nothing.

True: it is a part for which nobody waits.
"""


class PlacedConnection(Protocol):
    """Attributes of a connection that decide about its place; times are of the event loop's clock."""

    host: str
    made_s: float
    """Time at which the connection was made."""
    heard_s: float
    """Time at which data last arrived."""
    used_s: float
    """Time at which a result last arrived; minus infinity if none has."""


_Peer = TypeVar("_Peer", bound=PlacedConnection)


class ConnectionPlaces(Generic[_Peer]):
    """Connections of one receiver, with the limits in total and by address. No I/O; the caller passes the time."""

    def __init__(self) -> None:
        self.strangers: dict[_Peer, None] = {}
        """Connections that have not proved anything yet, the oldest first."""
        self.senders: dict[_Peer, None] = {}

    def greet(self, peer: _Peer) -> None:
        """Admit a stranger, for which there is a place."""
        self.strangers[peer] = None

    def crowded_out(self, now_s: float) -> tuple[_Peer | None, float]:
        """Return the stranger that must be closed to admit another one, if any, and the seconds until then."""
        if len(self.strangers) < MAX_STRANGERS:
            return None, 0.0
        oldest = next(iter(self.strangers))
        return oldest, max(oldest.made_s + STRANGER_S - now_s, 0.0)

    def admit(self, peer: _Peer, now_s: float) -> _Peer | None:
        """Make a stranger a sender; return the sender that must be closed for it, if any.

        Raises:
            ValueError: there is no place, since all are in use.
        """
        self.strangers.pop(peer, None)
        crowd = [known for known in self.senders if known.host == peer.host]
        if len(crowd) < MAX_SENDERS_OF_ADDRESS:
            crowd = list(self.senders) if len(self.senders) >= MAX_SENDERS else []
        least = min(crowd, key=lambda known: known.used_s, default=None)
        if least is not None:
            if now_s - least.used_s < IN_USE_S:
                raise ValueError(f"{len(self.senders)} senders use their connections, no other is accepted")
            del self.senders[least]
        self.senders[peer] = None
        return least

    def leave(self, peer: _Peer) -> None:
        """Forget a connection that has ended."""
        self.strangers.pop(peer, None)
        self.senders.pop(peer, None)

    def silent(self, now_s: float) -> list[_Peer]:
        """Return the senders that have sent no data for `SILENT_S`."""
        return [peer for peer in self.senders if now_s - peer.heard_s > SILENT_S]


class ReceiverConnection(asyncio.Protocol):
    """Connection of one sender, or of a stranger that has not authenticated yet."""

    def __init__(self, receiver: "ReplyStreamReceiver", host: str) -> None:
        self._receiver = receiver
        self.host = host
        """Address of the peer."""
        self.opening: asyncio.Task[Any] | None = None
        """Task that sets up the connection, TLS included."""
        self._received = bytearray()
        self._hello = b""
        self._challenge = b""
        self._authenticated = False
        self._results = 0
        self._transport: asyncio.Transport
        self.is_made = False
        """True if there is a transport, so that asyncio reports the end of the connection."""
        self._loop = asyncio.get_running_loop()
        self.made_s = self.heard_s = self._loop.time()
        self.used_s = float("-inf")
        self._timer = self._loop.call_later(HANDSHAKE_S, self._expire)
        self._acknowledging: asyncio.TimerHandle | None = None

    def abort(self) -> None:
        """Close the connection at once."""
        if self.is_made:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport; the sender sends the first message."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.is_made = True

    def data_received(self, data: bytes) -> None:
        """Process the sender's proof, then its results."""
        self._received += data
        self.heard_s = self._loop.time()
        try:
            if self._authenticated or self._shake_hands():
                self._take_results()
        except ValueError as error:  # an error of msgspec is a subclass
            level = logging.WARNING if self._authenticated else logging.DEBUG  # strangers must not fill the log
            log.log(level, "closing the connection of a sender of results: %s", error)
            self.abort()

    def pause_writing(self) -> None:
        """Close a connection whose sender does not read acknowledgements."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the sender."""
        self._timer.cancel()
        if self._acknowledging is not None:
            self._acknowledging.cancel()
        self._receiver.places.leave(self)

    def _take_results(self) -> None:
        on_result, before, size = self._receiver.on_result, self._results, len(self._received)
        only_parts = True
        for headers, value in take_frames(self._received):
            self._results += 1
            only_parts = only_parts and any(name == PART for name, _value in headers)
            if on_result(headers, value):
                self._transport.write(pack_unwanted(self._results))
        if self._results > before:
            self.used_s = self.heard_s
        if len(self._received) == size:
            return
        if not only_parts or self._results == before:
            self._transport.write(pack_ack(self._results))
        elif self._acknowledging is None:
            self._acknowledging = self._loop.call_later(PARTS_S, self._acknowledge)

    def _acknowledge(self) -> None:
        self._acknowledging = None
        self._transport.write(pack_ack(self._results))

    def _shake_hands(self) -> bool:
        """Continue the handshake; return true once it is complete."""
        token = self._receiver.token
        if not self._challenge and len(self._received) >= HELLO_BYTES:
            self._hello = self._take(HELLO_BYTES)
            self._challenge = challenge(token, self._hello)
            self._transport.write(self._challenge)
        if not self._challenge or len(self._received) < PROOF_BYTES:
            return False
        check_sender(token, self._hello, self._challenge, self._take(PROOF_BYTES))
        self._receiver.admit(self)
        self._authenticated = True
        self._timer.cancel()
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _expire(self) -> None:
        if not self._authenticated:
            self.abort()


class ReplyStreamReceiver:
    """Server of reply streams; an async context manager."""

    def __init__(self, settings: ReplyStreamSettings, on_result: OnResult, *, kafka_encrypted: bool = False) -> None:
        self._settings = settings
        self._encrypted = settings.encrypts_results(kafka_encrypted)
        self._tls: ReceiverTls | None = None
        self.on_result = on_result
        self.token: Final = new_token()
        self.places: ConnectionPlaces[ReceiverConnection] = ConnectionPlaces()
        self._listener: socket.socket | None = None
        self._resuming: asyncio.TimerHandle | None = None
        self._tasks = asyncio.TaskGroup()
        self._loop = asyncio.get_running_loop()
        self.header = b""
        """Value of the header for queries while this listens; empty if it does not."""

    async def __aenter__(self) -> Self:
        settings = self._settings
        if self._encrypted:
            try:
                self._tls = await asyncio.to_thread(new_receiver_tls)
            except (ImportError, OSError) as error:
                log.warning("results use the reply topic, because direct connections cannot be encrypted: %s", error)
                return self
        try:
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            words = listen_words(settings.host, settings.port, error, "INFAAS_REPLY_STREAM_PORT")
            raise OperatorError(f"cannot listen for results: {words}, or set INFAAS_REPLY_STREAM=false") from error
        listener.setblocking(False)
        self._listener = listener
        await self._tasks.__aenter__()
        self._sweeping = self._tasks.create_task(self._sweep(), name="silent senders of results")
        self._loop.add_reader(listener, self._accept, listener)
        port = listener.getsockname()[1]
        fingerprint = "" if self._tls is None else self._tls.fingerprint
        address = StreamAddress(settings.advertise or settings.host, port, self.token, fingerprint)
        self.header = address.header().encode()
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener)
        if self._resuming is not None:
            self._resuming.cancel()
        self._sweeping.cancel()
        for connection in [*self.places.strangers, *self.places.senders]:
            connection.abort()
        await self._tasks.__aexit__(None, None, None)
        self._listener.close()

    def admit(self, connection: ReceiverConnection) -> None:
        """Admit a connection whose sender knows the token.

        Raises:
            ValueError: there is no place for it.
        """
        gone = self.places.admit(connection, self._loop.time())
        if gone is not None:
            gone.abort()

    def _accept(self, listener: socket.socket) -> None:
        """Accept strangers while there are places for them; further ones wait in the order of their arrival."""
        for _ in range(_ACCEPTED_AT_ONCE):
            oldest, in_s = self.places.crowded_out(self._loop.time())
            if in_s:
                self._pause(listener, in_s)
                return
            try:
                connected, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # nobody waits any more
                return
            except OSError as error:  # too many open files
                log.warning("cannot accept connections for results: %r", error)
                self._pause(listener, _PAUSE_S)
                return
            if oldest is not None:
                oldest.abort()
                self.places.leave(oldest)
            self._greet(connected, str(address[0]))

    def _greet(self, connected: socket.socket, host: str) -> None:
        connected.setblocking(False)
        connection = ReceiverConnection(self, host)
        self.places.greet(connection)
        opening = self._tasks.create_task(self._open(connection, connected), name="sender of results")
        opening.add_done_callback(partial(self._opened, connection, connected))
        connection.opening = opening

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        """Accept no connection for a while."""
        self._loop.remove_reader(listener)
        self._resuming = self._loop.call_later(seconds, self._loop.add_reader, listener, self._accept, listener)

    async def _open(self, connection: ReceiverConnection, connected: socket.socket) -> None:
        """Set up a connection over a socket, TLS included; until then it has a stranger's place."""
        tls = None if self._tls is None else self._tls.context
        limit_s = None if tls is None else HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, connected, ssl=tls, ssl_handshake_timeout=limit_s
            )
        except OSError as error:  # an error of ssl is a subclass
            log.debug("a sender of results failed to connect: %r", error)

    def _opened(self, connection: ReceiverConnection, connected: socket.socket, _opening: asyncio.Task[None]) -> None:
        if not connection.is_made:  # asyncio does not report the end of this one
            connected.close()
            connection.connection_lost(None)

    async def _sweep(self) -> None:
        """Close connections whose peer disappeared without closing them."""
        while True:
            await asyncio.sleep(SILENT_S / 4)
            for connection in self.places.silent(self._loop.time()):
                log.info("a sender of results at %s has been silent for %g s", connection.host, SILENT_S)
                connection.abort()
