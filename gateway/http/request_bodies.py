"""Reader of request bodies, with limits for the size of each, for the sum of all, and for the time to arrive.

Compressed bodies are decompressed here, piece by piece, and the decompressed size counts. A small body that expands too
much is thus refused as soon as it exceeds the limit.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import StreamReader, web

from gateway.http.encodings import ENCODINGS, Decompressor, Encoding, EncodingError, encoding_of
from gateway.limits.memory import BodyBudget
from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest


class RequestBodies:
    """Reader of the bodies of all requests of one gateway."""

    def __init__(self, settings: GatewaySettings, budget: BodyBudget) -> None:
        self._most_each = settings.max_body_bytes
        self._timeout_s = settings.receive_timeout_s
        self._budget = budget

    async def read(self, content: StreamReader, headers: Mapping[str, str]) -> bytes:
        """Read the body of a request; the caller must `release` its size after use.

        Raises:
            HTTPRequestEntityTooLarge: the body exceeds the maximum size.
            HTTPRequestTimeout: the body did not arrive in time.
            HTTPUnsupportedMediaType: the encoding is unknown.
            InvalidRequest: the body does not match its encoding.
            Overloaded: the memory for all requests is exhausted.
        """
        packing = headers.get("Content-Encoding")
        if packing is None and content.is_eof():  # the usual case: a timer would cost more than the read
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
        """Release the memory of a body."""
        self._budget.release(size)

    def _take(self, size: int, taken: int) -> None:
        """Reserve memory for `size` more bytes of a body that holds `taken` already."""
        if taken + size > self._most_each:
            raise web.HTTPRequestEntityTooLarge(self._most_each, taken + size)
        self._budget.take(size, taken)


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
            if number:  # a large expansion takes long: let other requests run
                await asyncio.sleep(0)
            yield piece
    unpacking.check_end()
