"""Connection of one sender, as its receiver sees it: a stranger until it has proved that it knows the token.

Rules.
* Results are read only from senders that know the token.
* A result is acknowledged once `on_result` has returned: all results read at once by one number. A keepalive is
  answered by the same number as before.
* Invalid data closes the connection; results without an acknowledgement then come by the topic.

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
"""Seconds within which a sender must authenticate, TLS included."""

OnResult: TypeAlias = Callable[[RawHeaders, bytes], None]
"""Callback with a result's headers and value; raises nothing."""


class ConnectionOwner(Protocol):
    """Interface of the receiver for its connections."""

    on_result: OnResult

    @property
    def token(self) -> str:
        """Secret that authenticates senders."""
        ...

    def admit(self, connection: "ReceiverConnection") -> None:
        """Admit a connection whose sender knows the token; raise ValueError if there is no place for it."""
        ...

    def leave(self, connection: "ReceiverConnection") -> None:
        """Forget a connection that has ended."""
        ...


class ReceiverConnection(asyncio.Protocol):
    """Connection of one sender, or of a stranger that has not authenticated yet."""

    def __init__(self, receiver: ConnectionOwner, host: str) -> None:
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
