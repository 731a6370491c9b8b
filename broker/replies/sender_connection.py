"""Connection to one receiver, as its sender sees it.

Rules.
* No result is sent before the receiver has proved that it knows the token.
* All results of a turn of the event loop are sent in one write; no task and no future is made for a single result.
* A result must be acknowledged within two checks, `LOOK_S` apart. Otherwise the connection is closed, and all
  unacknowledged results fail; they may have arrived all the same.
* While too much is not acknowledged no result is accepted; this also limits the data that the receiver has not read.
* A part is sent like a result. If the receiver has nobody who waits for it, its author is called back.
* A connection without results is kept by keepalives; an answer shows that the receiver is alive. A connection that is
  not used for long is closed.

Hot: `send` and `data_received`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias, cast

from broker.replies.address import StreamAddress, shown_fingerprint
from broker.replies.protocol import CHALLENGE_BYTES, KEEPALIVE, encode_frame, new_hello, sender_proof, take_ack
from schemas.headers import RawHeaders

LOOK_S = 0.5
"""Seconds between two checks for late acknowledgements."""
KEEPALIVE_S = 15.0
"""Seconds between two checks whether the receiver is alive; a third of the silence after which the receiver closes."""
UNUSED_S = 300.0
"""Seconds without a result after which the connection is closed."""

OnEnd: TypeAlias = Callable[[bool], None]
"""Callback with true if the receiver has the result."""
OnUnwanted: TypeAlias = Callable[[], None]
"""Callback for a part that belongs to no request that still waits; it may follow each part that was sent."""
OnClosed: TypeAlias = Callable[["SenderConnection", str, int], None]
"""Callback with the connection, the reason of its end, and the number of its unacknowledged results."""
MAX_FRAMES: Final = 4096
MAX_BYTES: Final = 4 * 1024 * 1024


class AckWindow:
    """Results of one connection that were sent and are not acknowledged, by their callbacks."""

    def __init__(self) -> None:
        self._items: deque[tuple[int, OnEnd]] = deque()
        self._due = 0
        """Number of items that had been sent at the last call of `is_late`."""
        self.bytes = 0
        self.sent = 0
        self.acknowledged = 0

    def __len__(self) -> int:
        return len(self._items)

    def has_room(self, size: int) -> bool:
        """Return true if an item of `size` bytes may be sent."""
        return len(self._items) < MAX_FRAMES and self.bytes + size <= MAX_BYTES

    def add(self, size: int, item: OnEnd) -> None:
        """Note that an item was sent."""
        self._items.append((size, item))
        self.bytes += size
        self.sent += 1

    def acknowledge(self, count: int) -> list[OnEnd]:
        """Remove and return the items that are acknowledged once the first `count` items have been received.

        Raises:
            ValueError: fewer items were sent, or more were acknowledged before.
        """
        if not self.acknowledged <= count <= self.sent:
            raise ValueError(f"{count} acknowledged after {self.acknowledged}, of {self.sent} sent")
        taken = [self._take() for _ in range(count - self.acknowledged)]
        self.acknowledged = count
        return taken

    def is_late(self) -> bool:
        """Return true if an item is unacknowledged that had been sent before the previous call."""
        late = self.acknowledged < self._due
        self._due = self.sent
        return late

    def clear(self) -> list[OnEnd]:
        """Remove and return all unacknowledged items."""
        return [self._take() for _ in range(len(self._items))]

    def _take(self) -> OnEnd:
        size, item = self._items.popleft()
        self.bytes -= size
        return item


class SenderConnection(asyncio.Protocol):
    """Connection to one receiver; results may be sent once `authenticated` is done."""

    def __init__(self, address: StreamAddress, on_acknowledged: Callable[[int], None], on_closed: OnClosed) -> None:
        self._address = address
        self._on_acknowledged = on_acknowledged
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self.authenticated: asyncio.Future[None] = self._loop.create_future()
        """Done once results can be sent; cancelled if the connection ends before."""
        self.used_s = self._loop.time()
        """Event-loop time of its last use."""
        self._hello = new_hello()
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._window = AckWindow()
        self._parts: dict[int, OnUnwanted] = {}
        """Callbacks of the unacknowledged parts, by number."""
        self._unsent: list[bytes] = []
        self._looking: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._unanswered = False
        """True if a keepalive was sent and nothing has come since."""
        self._end = ""

    @property
    def ended(self) -> bool:
        """True if nothing more can be sent."""
        return bool(self._end)

    @property
    def idle(self) -> bool:
        """True if all results sent are acknowledged."""
        return not self._window

    @property
    def has_room(self) -> bool:
        """True if a small result can be sent."""
        return not self._end and self._window.has_room(1)

    @property
    def worked(self) -> bool:
        """True if the receiver has acknowledged any result."""
        return self._window.acknowledged > 0

    def send(self, headers: RawHeaders, value: bytes, on_end: OnEnd) -> bool:
        """Send a result; False if not possible now, and `on_end` is not called."""
        if self._end or not self._window.has_room(len(value)):
            return False
        frame = encode_frame(headers, value)
        if not self._window.has_room(len(frame)):
            return False
        self._window.add(len(frame), on_end)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame)
        return True

    def send_part(self, headers: RawHeaders, value: bytes, on_unwanted: OnUnwanted) -> bool:
        """Send a part of a result; False if not possible now. It is lost if the connection ends."""
        number = self._window.sent + 1
        if not self.send(headers, value, partial(self._part_ended, number)):
            return False
        self._parts[number] = on_unwanted
        return True

    def _part_ended(self, number: int, _arrived: bool) -> None:
        del self._parts[number]

    def close(self, reason: str) -> None:
        """Close the connection; unacknowledged results fail."""
        if not self._end:
            self._end = reason
            self._transport.abort()

    def _flush(self) -> None:
        frames, self._unsent = self._unsent, []
        if self._end:
            return
        self.used_s = self._loop.time()
        self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if self._looking is None:
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        if self._window.is_late():
            self.close("slow")
        elif self._window:
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def _beat(self) -> None:
        if self._unanswered:
            self.close("lost")
        elif self._loop.time() - self.used_s > UNUSED_S:
            self.close("unused")
        else:
            if not self._window:  # else the acknowledgement of a result shows it
                self._unanswered = True
                self._transport.write(KEEPALIVE)
            self._beating = self._loop.call_later(KEEPALIVE_S, self._beat)

    # -- called by the event loop --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the hello; over TLS only if the certificate is the one that the query named."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if self._address.fingerprint and shown_fingerprint(transport) != self._address.fingerprint:
            self.close("refused")
            return
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Process the receiver's proof, then its acknowledgements."""
        self._received += data
        self._unanswered = False
        try:
            taken = self._acknowledged() if self.authenticated.done() else self._prove()
        except ValueError:
            self.close("refused")
            return
        if not taken:
            return
        parts = len(self._parts)
        for on_end in taken:
            on_end(True)
        self._on_acknowledged(len(taken) - (parts - len(self._parts)))

    def _prove(self) -> list[OnEnd]:
        if len(self._received) < CHALLENGE_BYTES:
            return []
        answer = bytes(self._received[:CHALLENGE_BYTES])
        del self._received[:CHALLENGE_BYTES]
        self._transport.write(sender_proof(self._address.token, self._hello, answer))
        self.authenticated.set_result(None)
        self._beating = self._loop.call_later(KEEPALIVE_S, self._beat)
        return []

    def _acknowledged(self) -> list[OnEnd]:
        unwanted: list[int] = []
        count = take_ack(self._received, unwanted)
        for number in unwanted:
            if number in self._parts:
                self._parts[number]()
        return [] if count is None else self._window.acknowledge(count)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the unacknowledged results."""
        self._end = self._end or "lost"
        for timer in (self._looking, self._beating):
            if timer is not None:
                timer.cancel()
        if not self.authenticated.done():
            self.authenticated.cancel()
        failed = self._window.clear()
        self._on_closed(self, self._end, len(failed) - len(self._parts))
        for on_end in failed:
            on_end(False)
