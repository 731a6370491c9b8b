"""Encoding of results: a length, then headers and value in MessagePack; an acknowledgement is the number received.

A frame without a body is a keepalive: it is answered by an acknowledgement, but does not count as a result.

Hot: once per result at either end.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

import msgspec

from schemas.headers import RawHeaders

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""Bytes of the largest result that a stream carries."""

_LENGTH: Final = Struct("<I")
_COUNT: Final = Struct("<Q")
ACK_BYTES: Final = _COUNT.size
KEEPALIVE: Final = _LENGTH.pack(0)
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[tuple[str, bytes]], bytes]).decode

pack_ack: Final = _COUNT.pack


def encode_frame(headers: RawHeaders, value: bytes) -> bytes:
    """Encode a result as a frame."""
    body = _encode((headers, value))
    return _LENGTH.pack(len(body)) + body


def take_frames(buffer: bytearray) -> Iterator[tuple[RawHeaders, bytes]]:
    """Remove all complete results from the buffer, and yield them.

    Raises:
        ValueError: the bytes are no results, or a result is too large.
    """
    at, end = 0, len(buffer)
    try:
        while end - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {length} bytes")
            begin = at + _LENGTH.size
            if end - begin < length:
                return
            at = begin + length
            if length:
                yield _decode(buffer[begin:at])
    finally:
        del buffer[:at]


def take_ack(buffer: bytearray) -> int | None:
    """Remove all complete acknowledgements; return the last one, which includes the others.

    None if there is none yet.
    """
    whole = len(buffer) // ACK_BYTES * ACK_BYTES
    if not whole:
        return None
    (count,) = _COUNT.unpack_from(buffer, whole - ACK_BYTES)
    del buffer[:whole]
    return count
