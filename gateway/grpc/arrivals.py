"""Messages while they arrive: within a time, and few at once that take long.

gRPC's core holds what has come of a message and says nothing of it until it is whole, so only then it can be counted
(`gateway/request_room.py`). What is held before is bounded by this:

* Nearly all messages are here as soon as they are waited for, or a moment later. In a moment, a tenth of the time that
  a message has, nobody sends much.
* What takes longer needs a place, and there are as many as the room for all requests holds messages of the largest
  size. Where none is free, the call is refused. So who never finishes what they began keeps out large messages that
  come slowly, as over HTTP, and no usual query.
* What nobody waits for is not taken from the network, beyond the window that HTTP/2 gives each stream.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest, Overloaded, QueryError

_PROMPT_SHARE: Final = 0.1
"""Share of the time that a message has in which it is prompt."""


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
        """The next message of a call.

        Args:
            messages: the messages of the call.
            may_be_late: whether it may take a place of those that arrive slowly.

        Raises:
            InvalidRequest: it has not arrived in time, or the client sends none.
            Overloaded: too many others arrive.
        """
        if self._waiting >= self._most:
            raise Overloaded(f"{self._waiting} messages are arriving here; try again later")
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
        """Let a message that is not prompt go on, or have its wait end now."""
        now = asyncio.get_running_loop().time()
        if may_be and self._late < self._most_late:
            arrival.late = True
            self._late += 1
            arrival.limit.reschedule(now + self._timeout_s - self._prompt_s)
            return
        words = "too many messages arrive slowly here; try again later"
        arrival.refusal = Overloaded(words) if may_be else self._too_late(self._prompt_s)
        arrival.limit.reschedule(now)

    def _too_late(self, seconds: float) -> InvalidRequest:
        return InvalidRequest(f"the message has not arrived within {seconds:g} s")


class _Arrival:
    """A message that is waited for."""

    __slots__ = ("late", "limit", "refusal")

    def __init__(self) -> None:
        self.limit = asyncio.timeout(None)
        self.late = False
        self.refusal: QueryError | None = None
