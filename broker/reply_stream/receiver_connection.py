"""A connection of one sender of results, as its receiver sees it: a stranger until it has proved that it is one.

Rules.
* Results are read only from those who know the token.
* A result is acknowledged once `on_result` has returned: all that were read at once by one number. So is a keepalive,
  by the number that was said before.
* Whatever is no result ends the connection: what it had not been acknowledged comes by the topic.

Hot: `data_received`.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeAlias, cast

from broker.reply_stream.frames import pack_ack, take_frames
from broker.reply_stream.handshake import HELLO_BYTES, PROOF_BYTES, challenge, check_sender
from schemas.headers import RawHeaders

log = logging.getLogger(__name__)

HANDSHAKE_S: Final = 2.0
"""Seconds in which a sender proves who it is, TLS included."""

OnResult: TypeAlias = Callable[[RawHeaders, bytes], None]
"""Callback with a result's headers and value; raises nothing."""


class ConnectionOwner(Protocol):
    """The receiver, as its connections see it."""

    on_result: OnResult

    @property
    def token(self) -> str:
        """The secret that senders know."""
        ...

    def admit(self, connection: "ReceiverConnection") -> None:
        """Take in a connection whose sender knows the token; ValueError: there is no place for it."""
        ...

    def leave(self, connection: "ReceiverConnection") -> None:
        """Forget a connection that has ended."""
        ...


class ReceiverConnection(asyncio.Protocol):
    """One sender of results, or a stranger that has yet to prove that it is one."""

    def __init__(self, receiver: ConnectionOwner, host: str) -> None:
        self._receiver = receiver
        self.host = host
        """The other end's address."""
        self.opening: asyncio.Task[Any] | None = None
        """Making of the connection, TLS included."""
        self._received = bytearray()
        self._hello = b""
        self._challenge = b""
        self._authenticated = False
        self._results = 0
        self._transport: asyncio.Transport
        self.is_made = False
        """Whether there is a transport, so that the end of the connection is told."""
        self._loop = asyncio.get_running_loop()
        self.made_s = self.heard_s = self._loop.time()
        self.used_s = float("-inf")
        self._timer = self._loop.call_later(HANDSHAKE_S, self._expire)

    def abort(self) -> None:
        """End the connection at once."""
        if self.is_made:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a hello."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.is_made = True

    def data_received(self, data: bytes) -> None:
        """Take the sender's proof, then its results."""
        self._received += data
        self.heard_s = self._loop.time()
        try:
            if self._authenticated or self._shake_hands():
                self._take_results()
        except ValueError as error:  # what msgspec raises is one
            level = logging.WARNING if self._authenticated else logging.DEBUG  # strangers must not fill the log
            log.log(level, "a sender of results is cut off: %s", error)
            self.abort()

    def pause_writing(self) -> None:
        """End a connection whose sender does not read what is acknowledged."""
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the sender."""
        self._timer.cancel()
        self._receiver.leave(self)

    def _take_results(self) -> None:
        on_result, before, size = self._receiver.on_result, self._results, len(self._received)
        for headers, value in take_frames(self._received):
            on_result(headers, value)
            self._results += 1
        if self._results > before:
            self.used_s = self.heard_s
        if len(self._received) < size:
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
