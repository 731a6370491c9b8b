"""Listens for results on behalf of whoever waits in this process.

Rules.
* Results are read only from those who know the token; who does not prove that soon is cut off, and only a few may be
  about to.
* A result is acknowledged once `on_result` has returned: all that were read at once by one number.
* Whatever is no result ends its connection: what it had not been acknowledged comes by the topic.

Hot: `data_received`.
"""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, TypeAlias, cast

from broker.reply_stream.address import StreamAddress
from broker.reply_stream.frames import pack_ack, take_frames
from broker.reply_stream.handshake import HELLO_BYTES, PROOF_BYTES, challenge, check_sender, new_token
from broker.reply_stream.settings import ReplyStreamSettings
from process.os_errors import listen_words
from schemas.errors import OperatorError
from schemas.headers import RawHeaders

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 2.0
"""Seconds in which a sender proves who it is."""
MAX_STRANGERS: Final = 64
"""Number of connections that may be about to prove who they are."""
MAX_SENDERS: Final = 1024

OnResult: TypeAlias = Callable[[RawHeaders, bytes], None]
"""Callback with a result's headers and value; raises nothing."""


class ReplyStreamReceiver:
    """Server of reply streams; an async context manager."""

    def __init__(self, settings: ReplyStreamSettings, on_result: OnResult) -> None:
        self._settings = settings
        self.on_result = on_result
        self.token: Final = new_token()
        self.strangers: set[ReceiverConnection] = set()
        self.senders: set[ReceiverConnection] = set()
        self.header = b""
        """Value of the header that a query carries, while this listens."""

    async def __aenter__(self) -> Self:
        settings, loop = self._settings, asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: ReceiverConnection(self), settings.host, settings.port)
        except OSError as error:
            words = listen_words(settings.host, settings.port, error, "INFAAS_REPLY_STREAM_PORT")
            raise OperatorError(f"no way for results: {words}, or set INFAAS_REPLY_STREAM=false") from error
        port = self._server.sockets[0].getsockname()[1]
        self.header = StreamAddress(settings.advertise or settings.host, port, self.token).header().encode()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self.strangers | self.senders:
            connection.abort()
        await self._server.wait_closed()


class ReceiverConnection(asyncio.Protocol):
    """One sender of results, or a stranger that has yet to prove that it is one."""

    def __init__(self, receiver: ReplyStreamReceiver) -> None:
        self._receiver = receiver
        self._received = bytearray()
        self._hello = b""
        self._challenge = b""
        self._authenticated = False
        self._results = 0
        self._transport: asyncio.Transport
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_S, self._expire)

    def abort(self) -> None:
        """End the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a hello, unless too many are about to say theirs."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        receiver = self._receiver
        receiver.strangers.add(self)
        if len(receiver.strangers) > MAX_STRANGERS or len(receiver.senders) >= MAX_SENDERS:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take the sender's proof, then its results."""
        self._received += data
        try:
            if self._authenticated or self._shake_hands():
                self._take_results()
        except ValueError as error:  # what msgspec raises is one
            level = logging.WARNING if self._authenticated else logging.DEBUG  # strangers must not fill the log
            log.log(level, "a sender of results is cut off: %s", error)
            self._transport.abort()

    def pause_writing(self) -> None:
        """End a connection whose sender does not read what is acknowledged."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the sender."""
        self._timer.cancel()
        self._receiver.strangers.discard(self)
        self._receiver.senders.discard(self)

    def _take_results(self) -> None:
        on_result, before = self._receiver.on_result, self._results
        for headers, value in take_frames(self._received):
            on_result(headers, value)
            self._results += 1
        if self._results > before:
            self._transport.write(pack_ack(self._results))

    def _shake_hands(self) -> bool:
        """Go on with the handshake; returns whether it is over."""
        token = self._receiver.token
        if not self._challenge and len(self._received) >= HELLO_BYTES:
            self._hello = self._take(HELLO_BYTES)
            self._challenge = challenge(token, self._hello)
            self._transport.write(self._challenge)
        if not self._challenge or len(self._received) < PROOF_BYTES:
            return False
        check_sender(token, self._hello, self._challenge, self._take(PROOF_BYTES))
        self._authenticated = True
        self._timer.cancel()
        self._receiver.strangers.discard(self)
        self._receiver.senders.add(self)
        return True

    def _take(self, count: int) -> bytes:
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken

    def _expire(self) -> None:
        if not self._authenticated:
            self._transport.abort()
