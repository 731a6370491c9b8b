"""Response of server-sent events. It begins with its first event, so that an error before it is an ordinary response.

A client that does not read holds up only its own events: `send` waits, and the connection is cut after a timeout.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
from aiohttp import web

from schemas.errors import Internal, QueryError

log = logging.getLogger(__name__)

_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The last one asks proxies not to hold events back."""
_encode: Final = msgspec.json.Encoder().encode


def event(content: object) -> bytes:
    """Return an event with a content in JSON."""
    return b"data: " + _encode(content) + b"\n\n"


class EventResponse:
    """Response of one request."""

    def __init__(self, request: web.Request, headers: Mapping[str, str]) -> None:
        self._request = request
        self._response = web.StreamResponse(headers={**headers, **_HEADERS})

    @property
    def begun(self) -> bool:
        """True if an event was sent."""
        return self._response.prepared

    async def send(self, events: bytes) -> None:
        """Send events, once the client has read most of those before."""
        if not self.begun:
            await self._response.prepare(self._request)
        if events:
            await self._response.write(events)

    @property
    def ended(self) -> web.StreamResponse:
        """Response to return from the handler, which ends it."""
        return self._response

    @asynccontextmanager
    async def ending(self, error_event: Callable[[QueryError], bytes]) -> AsyncGenerator[None]:
        """End a response that has begun with an event for an error; an error before its first event is raised.

        A client that is gone is no error.
        """
        try:
            yield
        except Exception as error:
            if not self.begun:
                raise
            if isinstance(error, ConnectionResetError):
                return
            if not isinstance(error, QueryError):
                log.exception("%s %s", self._request.method, self._request.path)
                error = Internal()
            with suppress(ConnectionResetError):
                await self.send(error_event(error))
