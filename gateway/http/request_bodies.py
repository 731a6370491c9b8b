"""Bodies of requests in memory: bounded each, in their sum by the room for all, and in the time they take to arrive."""

import asyncio
from collections.abc import Mapping

from aiohttp import StreamReader, web

from gateway.request_room import RequestRoom
from gateway.settings import GatewaySettings


class RequestBodies:
    """Reader of the bodies of all requests of one gateway."""

    def __init__(self, settings: GatewaySettings, room: RequestRoom) -> None:
        self._most_each = settings.max_body_bytes
        self._timeout_s = settings.receive_timeout_s
        self._room = room

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
        self._room.release(size)

    def _take(self, size: int, taken: int) -> None:
        """Count more of a body of which `taken` is counted already."""
        if taken + size > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, taken + size)
        self._room.take(size, taken)
