"""Bodies of requests in memory: bounded each, in their sum by the room for all, and in the time they take to arrive.

A compressed body is unpacked here, and what it unpacks to is what counts: piece by piece, so that a few bytes that grow
to many are refused when they have grown too large, not afterwards.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import StreamReader, web

from gateway.http.encodings import ENCODINGS, Decompressor, Encoding, EncodingError, encoding_of
from gateway.request_room import RequestRoom
from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest


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
            HTTPUnsupportedMediaType: it is encoded in a way that is not known here.
            InvalidRequest: it is not what its encoding says.
            Overloaded: there is no room for it now.
        """
        packing = headers.get("Content-Encoding")
        if packing is None and content.is_eof():  # as most are by now: a timer would cost more than the reading
            body = content.read_nowait()
            self._take(len(body), 0)
            return body
        encoding = _encoding(packing or "")
        announced = int(headers.get("Content-Length", 0))
        if announced > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, announced)
        taken, pieces = 0, list[bytes]()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for piece in _unpacked(content, encoding) if encoding else content.iter_any():
                    self._take(len(piece), taken)
                    taken += len(piece)
                    pieces.append(piece)
        except TimeoutError:
            self.release(taken)
            raise web.HTTPRequestTimeout(reason=f"the request has not arrived within {self._timeout_s:g} s") from None
        except EncodingError as error:
            self.release(taken)
            raise InvalidRequest(str(error)) from None
        except BaseException:
            self.release(taken)
            raise
        return b"".join(pieces)

    def release(self, size: int) -> None:
        """Give back the room of a body."""
        self._room.release(size)

    def _take(self, size: int, taken: int) -> None:
        """Count more of a body of which `taken` is counted already."""
        if taken + size > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, taken + size)
        self._room.take(size, taken)


def _encoding(packing: str) -> Encoding | None:
    try:
        return encoding_of(packing)
    except LookupError:
        known = ", ".join(ENCODINGS)
        reason = f"Content-Encoding {packing[:40]!r} is not known here: send the body as it is, or in one of {known}"
        raise web.HTTPUnsupportedMediaType(reason=reason, headers={"Accept-Encoding": known}) from None


async def _unpacked(content: StreamReader, encoding: Encoding) -> AsyncIterator[bytes]:
    unpacking = Decompressor(encoding)
    while packed := await content.readany():
        for number, piece in enumerate(unpacking.pieces(packed)):
            if number:  # what grows to much takes long: others are answered meanwhile
                await asyncio.sleep(0)
            yield piece
    unpacking.check_end()
