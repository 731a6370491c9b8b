"""Sender of reply streams: sends results directly to the receivers that queries name, if that is possible at once.

Rules.
* No result waits for a connection. Until there is one, and after any problem, a result is not accepted and goes by its
  topic. So a failing receiver affects no other, and its own results still arrive by topic.
* The authors of queries choose addresses. A sender connects only to networks that the settings allow, to a limited
  number of addresses at a time, and for a limited time. An address that failed is avoided for a while.
* A connection is identified by address and token together: an invented token does not affect the receiver's own
  queries.
* If Kafka is reached by TLS, no result goes to another machine in clear, unless the settings allow it.

Hot: `send`, once per result.
"""

import asyncio
import logging
from functools import partial
from typing import Final, Protocol, Self

from prometheus_client import Counter

from broker.kafka.settings import ReplyStreamSettings
from broker.replies.address import StreamAddress, new_sender_context, parse_address
from broker.replies.sender_connection import OnEnd, OnUnwanted, SenderConnection
from process.backoff import Backoff, KeyedBackoff
from schemas.headers import RawHeaders

log = logging.getLogger(__name__)

CONNECT_S: Final = 2.0
"""Seconds within which a connection is made and both ends have authenticated."""
MAX_CONNECTIONS: Final = 256
MAX_CONNECTING: Final = 8
UNUSED_S: Final = 10.0
"""Seconds without use after which a connection may be closed in favour of another."""
BACKOFF: Final = Backoff(first_s=1.0, longest_s=60.0)
"""Pauses in which an address that failed is avoided."""
_MOST_AVOIDED: Final = 1024
"""Number of addresses that are remembered; the authors of queries can invent more."""

STREAMED: Final = Counter("infaas_results_streamed_total", "Results delivered by a reply stream")
NOT_STREAMED: Final = Counter(
    "infaas_results_not_streamed_total", "Results with a reply stream that were sent to their topic", ["reason"]
)


class ResultSender(Protocol):
    """Interface of reply streams for code that only sends results."""

    def send(self, stream: str, headers: RawHeaders, value: bytes, on_end: OnEnd) -> bool:
        """Send a result; False if that is not possible now. See `ReplyStreamSender.send`."""
        ...

    def send_part(self, stream: str, headers: RawHeaders, value: bytes, on_unwanted: OnUnwanted) -> bool:
        """Send a part of a result; False if that is not possible now. See `ReplyStreamSender.send_part`."""
        ...


class ReplyStreamSender:
    """Sender of results over reply streams, used within one event loop; an async context manager."""

    def __init__(self, settings: ReplyStreamSettings, *, kafka_encrypted: bool = False) -> None:
        self._settings = settings
        self._kafka_encrypted = kafka_encrypted
        self._tls = new_sender_context()
        self._connections: dict[str, SenderConnection] = {}
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._backoff = KeyedBackoff(BACKOFF, _MOST_AVOIDED)
        self._tasks = asyncio.TaskGroup()
        self._closed = not settings.enabled
        self._warned = False
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Close all connections; unacknowledged results fail."""
        self._closed = True
        for connection in list(self._connections.values()):
            connection.close("closed")
        for connecting in self._connecting.values():
            connecting.cancel()
        await self._tasks.__aexit__(None, None, None)

    def send(self, stream: str, headers: RawHeaders, value: bytes, on_end: OnEnd) -> bool:
        """Send a result to the receiver in a query's header; False if not possible now, and `on_end` is not called."""
        connection = self._connections.get(stream)
        if connection is not None and connection.send(headers, value, on_end):
            return True
        if self._closed:
            return False
        NOT_STREAMED.labels("busy" if connection is not None else self._connect(stream)).inc()
        return False

    def send_part(self, stream: str, headers: RawHeaders, value: bytes, on_unwanted: OnUnwanted) -> bool:
        """Send a part of a result, with the header `PART`; False if not possible now.

        A part that is not acknowledged is not sent again: the result that follows has the whole answer. `on_unwanted`
        is called if nobody waits for the answer any more; never from within this call, and perhaps more than once.
        """
        connection = self._connections.get(stream)
        if connection is not None:
            return connection.send_part(headers, value, on_unwanted)
        if not self._closed:
            self._connect(stream)
        return False

    def can_send_part(self, stream: str) -> bool:
        """Return true if a part can be sent now, unless it is large; else begin to connect if that is allowed."""
        connection = self._connections.get(stream)
        if connection is None and not self._closed:
            self._connect(stream)
        return connection is not None and connection.has_room

    def _connect(self, stream: str) -> str:
        """Begin to connect to a receiver if that is allowed; return why nothing can be sent to it now."""
        now_s = self._loop.time()
        if stream in self._connecting:
            return "connecting"
        if not self._backoff.is_due(stream, now_s):
            return "avoided"
        address = parse_address(stream)
        if address is None:
            return "malformed"
        refusal = self._refusal(address, now_s)
        if refusal:
            self._backoff.failed(stream, now_s)
            return refusal
        opening = self._open(stream, address)
        self._connecting[stream] = self._tasks.create_task(opening, name=f"connect to {address!r}")
        return "connecting"

    def _refusal(self, address: StreamAddress, now_s: float) -> str:
        """Return why no connection to a receiver may be made now; empty if one may."""
        if not address.is_within(self._settings.allowed):
            self._warn_once(address, "is in no network of INFAAS_REPLY_STREAM_NETWORKS")
            return "not allowed"
        if not address.may_receive(self._settings, self._kafka_encrypted):
            self._warn_once(address, "requests unencrypted results, which INFAAS_REPLY_STREAM_TLS=false would allow")
            return "not encrypted"
        full = len(self._connecting) >= MAX_CONNECTING or not self._has_room(now_s)
        return "too many" if full else ""

    def _warn_once(self, address: StreamAddress, why: str) -> None:
        """Warn the operator, but only once: the authors of queries must not be able to fill the log."""
        if not self._warned:
            log.warning("%r %s: results for it go to the reply topic", address, why)
            self._warned = True

    def _has_room(self, now_s: float) -> bool:
        if len(self._connections) + len(self._connecting) < MAX_CONNECTIONS:
            return True
        idle = [known for known in self._connections.values() if known.idle]
        oldest = min(idle, key=lambda known: known.used_s, default=None)
        if oldest is not None and now_s - oldest.used_s > UNUSED_S:
            oldest.close("unused")
        return False

    async def _open(self, stream: str, address: StreamAddress) -> None:
        make = partial(SenderConnection, address, STREAMED.inc, partial(self._on_closed, stream))
        tls = self._tls if address.fingerprint else None
        connection: SenderConnection | None = None
        try:
            async with asyncio.timeout(CONNECT_S):
                _transport, connection = await self._loop.create_connection(make, address.host, address.port, ssl=tls)
                await asyncio.wait({connection.authenticated})
            if connection.ended:
                raise ConnectionError("it is not the expected receiver")
            self._connections[stream] = connection
        except Exception as error:  # noqa: BLE001 - a peer that a query names must not end a service
            self._backoff.failed(stream, self._loop.time())
            log.info("results go to the reply topic, since %r cannot be reached: %r", address, error)
        finally:
            del self._connecting[stream]
            if connection is not None and self._connections.get(stream) is not connection:
                connection.close("refused")

    def _on_closed(self, stream: str, connection: SenderConnection, reason: str, failed: int) -> None:
        if self._connections.get(stream) is not connection:
            return  # it never served
        del self._connections[stream]
        log.info(
            "the stream of results to %r ended (%s), %d results go to the reply topic",
            parse_address(stream),
            reason,
            failed,
        )
        if failed:
            NOT_STREAMED.labels(reason).inc(failed)
        if reason != "unused":
            if connection.worked:
                self._backoff.reset(stream)
            self._backoff.failed(stream, self._loop.time())
