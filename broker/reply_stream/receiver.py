"""Receiver of reply streams: listens for results of requests of this process.

Rules.
* `places.py` decides which connection has a place, and which one is closed for another.
* A connection takes its place when it is accepted, before its TLS handshake. So a connection that never answers is
  limited in number and time like all others.
"""

import asyncio
import logging
import socket
from functools import partial
from types import TracebackType
from typing import Final, Self

from broker.reply_stream.address import StreamAddress
from broker.reply_stream.encryption import ReceiverTls, new_receiver_tls
from broker.reply_stream.handshake import new_token
from broker.reply_stream.places import SILENT_S, ConnectionPlaces
from broker.reply_stream.receiver_connection import HANDSHAKE_S, OnResult, ReceiverConnection
from broker.reply_stream.settings import ReplyStreamSettings
from process.os_errors import listen_words
from schemas.errors import OperatorError

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
"""Connections that may wait for a place."""
_PAUSE_S: Final = 0.5


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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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

    def leave(self, connection: ReceiverConnection) -> None:
        """Forget a connection that has ended."""
        self.places.leave(connection)

    def _accept(self, listener: socket.socket) -> None:
        """Accept a stranger if there is a place for it; further ones wait in the order of their arrival."""
        oldest, in_s = self.places.crowded_out(self._loop.time())
        if in_s:
            self._pause(listener, in_s)
            return
        if oldest is not None:
            oldest.abort()
            self.places.leave(oldest)
        try:
            connected, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # it has closed already
            return
        except OSError as error:  # too many open files
            log.warning("cannot accept connections for results: %r", error)
            self._pause(listener, _PAUSE_S)
            return
        connected.setblocking(False)
        connection = ReceiverConnection(self, str(address[0]))
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
