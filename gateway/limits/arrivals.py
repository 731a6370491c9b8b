"""Limits of requests that arrive: the memory of all of them, and slow messages of gRPC.

Memory: received bytes count rather than announced ones, since a connection that only announces a body costs nothing.
The last quarter of the memory is reserved for small requests, so that large uploads never block ordinary queries. A
request that exceeds the limit is refused at once; while it waited, its bytes would occupy other buffers.

Slow messages: a call of gRPC buffers a message until it is complete, and its bytes are counted only then. These rules
bound the buffered bytes:

* Nearly all messages are complete when they are awaited, or shortly after: within a tenth of the timeout. A client
  cannot send much in that time.
* A slower message needs a place. There are as many places as messages of maximum size fit into the memory for all
  requests. Without a free place the call is refused. Clients that never finish their messages thus block other slow,
  large messages, as over HTTP, but no ordinary queries.
* A message that is not awaited is not read from the network beyond the HTTP/2 window of its stream.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from prometheus_client import Gauge

from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest, Overloaded, QueryError, RefusalReason

SMALL_BYTES: Final = 256 * 1024
LARGE_SHARE: Final = 0.75
"""Share of the memory that requests above `SMALL_BYTES` may use."""
HELD: Final = Gauge("infaas_gateway_body_bytes", "Bytes of request bodies that are held, whole or not")
_PROMPT_SHARE: Final = 0.1
"""Share of the timeout within which a message counts as prompt."""


class BodyBudget:
    """Memory for the requests that one gateway holds at once."""

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self._most_large = int(LARGE_SHARE * max_bytes)
        self.held = 0
        """Bytes held now."""
        HELD.set_function(lambda: self.held)

    def take(self, size: int, taken: int = 0) -> None:
        """Reserve `size` further bytes for a request that already holds `taken`.

        Raises:
            Overloaded: the memory is exhausted.
        """
        if self.held + size > (self._most if taken + size <= SMALL_BYTES else self._most_large):
            message = "the memory of the gateway for requests is exhausted; try again later"
            raise Overloaded(message, reason=RefusalReason.BODY_MEMORY)
        self.held += size

    def release(self, size: int) -> None:
        """Release bytes."""
        self.held -= size


class Arrivals:
    """Messages of one gateway that have not arrived yet."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._timeout_s = settings.receive_timeout_s
        self._prompt_s = _PROMPT_SHARE * settings.receive_timeout_s
        self._most = settings.max_connections
        self._most_late = max(settings.max_bodies_bytes // settings.max_body_bytes, 1)
        self._waiting = 0
        self._late = 0

    async def message(self, messages: AsyncIterator[bytes], *, may_be_late: bool = True) -> bytes:
        """Receive the next message of a call.

        Args:
            messages: messages of the call.
            may_be_late: true if the message may use a place for slow messages.

        Raises:
            InvalidRequest: the message did not arrive in time, or the client sends none.
            Overloaded: too many other messages are arriving.
        """
        if self._waiting >= self._most:
            message = f"{self._waiting} messages are arriving here; try again later"
            raise Overloaded(message, reason=RefusalReason.ARRIVAL_LIMIT)
        self._waiting += 1
        arrival = _Arrival()
        timer = asyncio.get_running_loop().call_later(self._prompt_s, self._is_late, arrival, may_be_late)
        try:
            async with arrival.limit:
                return await anext(messages)
        except TimeoutError:
            raise arrival.refusal or self._too_late(self._timeout_s) from None
        except StopAsyncIteration:
            raise InvalidRequest("the call has ended without a message") from None
        finally:
            timer.cancel()
            self._waiting -= 1
            self._late -= arrival.late

    def _is_late(self, arrival: "_Arrival", may_be: bool) -> None:
        """Give a slow message a place, or end its wait now."""
        now = asyncio.get_running_loop().time()
        if may_be and self._late < self._most_late:
            arrival.late = True
            self._late += 1
            arrival.limit.reschedule(now + self._timeout_s - self._prompt_s)
            return
        message = "too many messages arrive slowly here; try again later"
        refusal = Overloaded(message, reason=RefusalReason.ARRIVAL_LIMIT)
        arrival.refusal = refusal if may_be else self._too_late(self._prompt_s)
        arrival.limit.reschedule(now)

    def _too_late(self, seconds: float) -> InvalidRequest:
        return InvalidRequest(f"the message has not arrived within {seconds:g} s")


class _Arrival:
    """State of a message that is awaited."""

    __slots__ = ("late", "limit", "refusal")

    def __init__(self) -> None:
        self.limit = asyncio.timeout(None)
        self.late = False
        self.refusal: QueryError | None = None
