"""Messages of gRPC in a stream of bytes: each has a prefix of five bytes, a flag of compression and a length. Pure.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import struct
import zlib
from typing import Final

import grpc

from gateway.grpc.status import CallEnded

IDENTITY: Final = "identity"
_WINDOW_BITS: Final = {"gzip": 31, "deflate": 15}
ACCEPTED: Final = ",".join((IDENTITY, *_WINDOW_BITS))
"""Accepted encodings, as the header `grpc-accept-encoding` names them."""
_PREFIX: Final = struct.Struct(">BI")


def prefixed(message: bytes) -> bytes:
    """Return a message with its prefix, not compressed."""
    return _PREFIX.pack(0, len(message)) + message


class MessageParser:
    """Parser of the messages that one side of a call sends."""

    def __init__(self, encoding: str, most_bytes: int) -> None:
        """Refuse messages of more than `most_bytes`, decompressed."""
        self._encoding = encoding
        self._most_bytes = most_bytes
        self._held = b""
        self._more: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if self._held:
            self._more.append(data)
        else:
            self._held = data
        self._size += len(data)

    @property
    def is_empty(self) -> bool:
        """True if no message has begun."""
        return not self._size

    def next(self) -> bytes | None:
        """Return the next message; None if it is not complete.

        Raises:
            CallEnded: it is too large, or cannot be decompressed.
        """
        if self._size < _PREFIX.size:
            return None
        if self._more and len(self._held) < _PREFIX.size:
            self._join()
        compressed, length = _PREFIX.unpack_from(self._held)
        if length > self._most_bytes:
            raise self._too_large(f"{length} bytes")
        end = _PREFIX.size + length
        if self._size < end:
            return None
        if self._more:
            self._join()
        message, self._held = self._held[_PREFIX.size : end], self._held[end:]
        self._size -= end
        return self._decompressed(message) if compressed else message

    def _join(self) -> None:
        self._held = b"".join((self._held, *self._more))
        self._more.clear()

    def _decompressed(self, message: bytes) -> bytes:
        if self._encoding == IDENTITY:
            raise CallEnded(grpc.StatusCode.INTERNAL, "a message is compressed, but the call names no encoding")
        unpacking = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        try:
            found = unpacking.decompress(message, self._most_bytes + 1)
        except zlib.error as error:
            raise CallEnded(grpc.StatusCode.INTERNAL, f"a message is no {self._encoding}: {error}") from None
        if len(found) > self._most_bytes:
            raise self._too_large("more bytes, decompressed")
        if not unpacking.eof:
            raise CallEnded(grpc.StatusCode.INTERNAL, f"a message is no {self._encoding}: it is cut off")
        return found

    def _too_large(self, size: str) -> CallEnded:
        words = f"a message has {size}, and may have at most {self._most_bytes}"
        return CallEnded(grpc.StatusCode.RESOURCE_EXHAUSTED, words)
