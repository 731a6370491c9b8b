"""Limits for messages that are still arriving: a timeout, and a maximum number of slow ones.

The core of gRPC buffers a message and reports it only when it is complete, so `gateway/limits/memory.py` cannot count
it before. These rules bound the buffered bytes:

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

from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest, Overloaded, QueryError, RefusalReason

_PROMPT_SHARE: Final = 0.1
"""Share of the timeout within which a message counts as prompt."""


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
