"""Bodies over HTTP: their encodings, gzip and deflate, and the limits of request bodies.

A body may expand to a thousand times its compressed size, so it is never decompressed as a whole: the reader takes a
piece, counts it, and only then requests the next. The decompressed size counts against the limits for each request and
for all. Responses are compressed only where it pays.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal, TypeAlias

from aiohttp import StreamReader, web

from gateway.limits.arrivals import BodyBudget
from gateway.settings import GatewaySettings
from schemas.errors import InvalidRequest

Encoding: TypeAlias = Literal["gzip", "deflate"]
ENCODINGS: Final = ("gzip", "deflate")
IDENTITY: Final = "identity"
WORTH_BYTES: Final = 4096
"""Minimum size of compressed responses; a smaller body fits into few packets anyway."""
_PIECE_BYTES: Final = 256 * 1024
_WINDOW: Final = {"gzip": 31, "deflate": 15}  # zlib's wbits; deflate has a zlib header in RFC 9110
_HEADERLESS: Final = -15
_LEVEL: Final = 1  # most of the gain at a third of the time
_SMALLER: Final = 0.8
"""Compression must reach this share of the size; random tensors and images do not, and are sent as they are."""
_ALIASES: Final = {"x-gzip": "gzip"}


class EncodingError(Exception):
    """Error of a body that does not match its encoding."""


def encoding_of(header: str) -> Encoding | None:
    """Return the encoding in a `Content-Encoding` header; None for an unencoded body.

    Raises:
        LookupError: the encoding is unknown.
    """
    names = [name for name in (part.strip().lower() for part in header.split(",")) if name and name != IDENTITY]
    if not names:
        return None
    name = _ALIASES.get(names[0], names[0])
    if len(names) > 1 or name not in ENCODINGS:
        raise LookupError(header)
    return name


class Decompressor:
    """Decompressor of one body, piece by piece."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._unpacking = zlib.decompressobj(_WINDOW[encoding])
        self._begun = False

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Yield decompressed pieces of at most 256 KiB.

        Raises:
            EncodingError: the body does not match its encoding.
        """
        rest, full = packed, False
        while rest or full:  # a full piece may have a successor even without more input
            if self._unpacking.eof and rest:
                self._next_member()
            piece = self._unpack(rest)
            rest, full = self._unpacking.unconsumed_tail or self._unpacking.unused_data, len(piece) == _PIECE_BYTES
            yield piece

    def check_end(self) -> None:
        """Check that the body is complete.

        Raises:
            EncodingError: the body ends too early.
        """
        if self._begun and not self._unpacking.eof:
            raise EncodingError(f"the body is no whole {self._encoding}: it ends too early")

    def _unpack(self, packed: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            if self._encoding == "deflate" and packed[0] & 0xF != zlib.DEFLATED:  # raw deflate, as some clients send
                self._unpacking = zlib.decompressobj(_HEADERLESS)
        try:
            return self._unpacking.decompress(packed, _PIECE_BYTES)
        except zlib.error as error:
            raise EncodingError(f"the body is no {self._encoding}, as its Content-Encoding says: {error}") from None

    def _next_member(self) -> None:
        """Start the next member of a gzip file."""
        if self._encoding != "gzip":
            raise EncodingError(f"there are bytes after the end of the {self._encoding}")
        self._unpacking = zlib.decompressobj(_WINDOW["gzip"])


def accepted_encoding(header: str) -> Encoding | None:
    """Return the encoding that an `Accept-Encoding` header prefers; None for no encoding."""
    weights = dict(_weight(part) for part in header.lower().split(",") if part.strip())
    for alias, name in _ALIASES.items():
        if alias in weights:
            weights.setdefault(name, weights[alias])
    rest = weights.get("*", 0.0)
    best = max(ENCODINGS, key=lambda name: weights.get(name, rest))
    weight = weights.get(best, rest)
    return best if weight > 0 and weight >= weights.get(IDENTITY, 0.0) else None


def _weight(part: str) -> tuple[str, float]:
    name, *options = (text.strip() for text in part.split(";"))
    for option in options:
        if option.startswith("q="):
            return name, _number(option[2:])
    return name, 1.0


def _number(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def shrinks(body: bytes) -> bool:
    """Return true if the beginning of a body compresses well."""
    return len(zlib.compress(body[:WORTH_BYTES], _LEVEL)) < _SMALLER * WORTH_BYTES


def compress(body: bytes, encoding: Encoding) -> bytes:
    """Return the compressed body."""
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW[encoding])
    return packing.compress(body) + packing.flush()


class RequestBodies:
    """Reader of the bodies of all requests of one gateway."""

    def __init__(self, settings: GatewaySettings, budget: BodyBudget) -> None:
        self._most_each = settings.max_body_bytes
        self._timeout_s = settings.receive_timeout_s
        self._budget = budget

    async def read(self, content: StreamReader, headers: Mapping[str, str], most: int | None = None) -> bytes:
        """Read the body of a request; the caller must release its size from the budget after use.

        Args:
            content: stream of the body.
            headers: headers of the request.
            most: maximum size in bytes; None: that of all requests.

        Raises:
            HTTPRequestEntityTooLarge: the body exceeds the maximum size.
            HTTPRequestTimeout: the body did not arrive in time.
            HTTPUnsupportedMediaType: the encoding is unknown.
            InvalidRequest: the body does not match its encoding.
            Overloaded: the memory for all requests is exhausted.
        """
        packing = headers.get("Content-Encoding")
        most = self._most_each if most is None else min(most, self._most_each)
        if packing is None and content.is_eof():  # the usual case: a timer would cost more than the read
            body = content.read_nowait()
            self._take(len(body), 0, most)
            return body
        encoding = _encoding(packing or "")
        announced = int(headers.get("Content-Length", 0))
        if announced > most:
            raise web.HTTPRequestEntityTooLarge(most, announced)
        taken, pieces = 0, list[bytes]()
        try:
            async with asyncio.timeout(self._timeout_s):
                async for piece in _unpacked(content, encoding) if encoding else content.iter_any():
                    self._take(len(piece), taken, most)
                    taken += len(piece)
                    pieces.append(piece)
        except BaseException as error:
            self._budget.release(taken)
            if isinstance(error, TimeoutError):
                reason = f"the request has not arrived within {self._timeout_s:g} s"
                raise web.HTTPRequestTimeout(reason=reason) from None
            if isinstance(error, EncodingError):
                raise InvalidRequest(str(error)) from None
            raise
        return b"".join(pieces)

    @asynccontextmanager
    async def reading(
        self, content: StreamReader, headers: Mapping[str, str], most: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Read the body of a request and hold its memory while the context is open; raises as `read`."""
        body = await self.read(content, headers, most)
        try:
            yield body
        finally:
            self._budget.release(len(body))

    def _take(self, size: int, taken: int, most: int) -> None:
        """Reserve memory for `size` more bytes of a body that holds `taken` already."""
        if taken + size > most:
            raise web.HTTPRequestEntityTooLarge(most, taken + size)
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
