"""Listens for results on behalf of whoever waits in this process.

Rules.
* Who has a place, and who has to go for another, is `places.py`'s to say.
* A connection has its place from when it is accepted, before TLS is made on it where results are encrypted: whoever
  never answers is bounded by number and time as all others are.
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
"""Connections that wait for a place."""
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
        """Value of the header that a query carries, while this listens; empty if it does not."""

    async def __aenter__(self) -> Self:
        settings = self._settings
        if self._encrypted:
            try:
                self._tls = await asyncio.to_thread(new_receiver_tls)
            except (ImportError, OSError) as error:
                log.warning("results come by topic, for they cannot be encrypted on their way straight here: %s", error)
                return self
        try:
            family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
            listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        except OSError as error:
            words = listen_words(settings.host, settings.port, error, "INFAAS_REPLY_STREAM_PORT")
            raise OperatorError(f"no way for results: {words}, or set INFAAS_REPLY_STREAM=false") from error
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
        """Take in a connection whose sender knows the token.

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
        """Let a stranger in if there is a place; who comes waits in the order of arrival."""
        oldest, in_s = self.places.crowded_out(self._loop.time())
        if in_s:
            self._pause(listener, in_s)
            return
        if oldest is not None:
            oldest.abort()
            self.places.leave(oldest)
        try:
            connected, address = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):  # it has gone again
            return
        except OSError as error:  # too many files are open
            log.warning("no connection for results can be accepted: %r", error)
            self._pause(listener, _PAUSE_S)
            return
        connected.setblocking(False)
        connection = ReceiverConnection(self, str(address[0]))
        self.places.greet(connection)
        opening = self._tasks.create_task(self._open(connection, connected), name="sender of results")
        opening.add_done_callback(partial(self._opened, connection, connected))
        connection.opening = opening

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        """Leave those who come waiting for a while."""
        self._loop.remove_reader(listener)
        self._resuming = self._loop.call_later(seconds, self._loop.add_reader, listener, self._accept, listener)

    async def _open(self, connection: ReceiverConnection, connected: socket.socket) -> None:
        """Make a connection, TLS included, of a socket; until that is done its place is a stranger's."""
        tls = None if self._tls is None else self._tls.context
        limit_s = None if tls is None else HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, connected, ssl=tls, ssl_handshake_timeout=limit_s
            )
        except OSError as error:  # what ssl raises is one
            log.debug("a sender of results made no connection: %r", error)

    def _opened(self, connection: ReceiverConnection, connected: socket.socket, _opening: asyncio.Task[None]) -> None:
        if not connection.is_made:  # its end is told to nobody
            connected.close()
            connection.connection_lost(None)

    async def _sweep(self) -> None:
        """End connections whose other end is gone and could not say so."""
        while True:
            await asyncio.sleep(SILENT_S / 4)
            for connection in self.places.silent(self._loop.time()):
                log.info("a sender of results at %s has been silent for %g s", connection.host, SILENT_S)
                connection.abort()
