"""Bodies of requests in memory: bounded each, in their sum over all connections, and in the time they take to arrive.

What has arrived is counted, not what was announced: a connection that only promises costs nothing. The last quarter of
the room is for small bodies, so that large uploads, finished or not, never keep the usual query out. What does not fit
is answered 503 at once, rather than left to wait: its bytes would lie in buffers meanwhile.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import StreamReader, web
from prometheus_client import Gauge

from gateway.settings import GatewaySettings
from schemas.errors import Overloaded

SMALL_BYTES: Final = 256 * 1024
LARGE_SHARE: Final = 0.75
"""Share of the room that bodies larger than small may fill."""
HELD: Final = Gauge("infaas_gateway_body_bytes", "Bytes of request bodies that are held, whole or not")


class RequestBodies:
    """Room for the bodies of all requests of one gateway."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._most_each = settings.max_body_bytes
        self._most = settings.max_bodies_bytes
        self._most_large = int(LARGE_SHARE * self._most)
        self._timeout_s = settings.receive_timeout_s
        self.held = 0
        """Bytes held now."""
        HELD.set_function(lambda: self.held)

    async def read(self, content: StreamReader, headers: Mapping[str, str]) -> bytes:
        """Read the body of a request; who reads it gives it back by `release` when it is no longer held.

        Raises:
            HTTPRequestEntityTooLarge: it is larger than any may be.
            HTTPRequestTimeout: it has not arrived in time.
            Overloaded: there is no room for it now.
        """
        if content.is_eof():  # as most are by now: a timer would cost more than the reading
            body = content.read_nowait()
            self._take(len(body), 0)
            return body
        announced = int(headers.get("Content-Length", 0))
        if announced > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, announced)
        taken, chunks = 0, list[bytes]()
        try:
            async with asyncio.timeout(self._timeout_s):
                while chunk := await content.readany():
                    self._take(len(chunk), taken)
                    taken += len(chunk)
                    chunks.append(chunk)
        except TimeoutError:
            self.release(taken)
            raise web.HTTPRequestTimeout(reason=f"the request has not arrived within {self._timeout_s:g} s") from None
        except BaseException:
            self.release(taken)
            raise
        return b"".join(chunks)

    def release(self, size: int) -> None:
        """Give back the room of a body."""
        self.held -= size

    def _take(self, size: int, taken: int) -> None:
        """Count more of a body of which `taken` is counted already."""
        if taken + size > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, taken + size)
        if self.held + size > (self._most if taken + size <= SMALL_BYTES else self._most_large):
            raise Overloaded("the gateway holds as many bytes of requests as it may; try again later")
        self.held += size
