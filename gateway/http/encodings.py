"""Encodings of HTTP's bodies, gzip and deflate: read within bounds, written where it pays.

A compressed body may be a thousand times larger than what came, so it is never unpacked as a whole: whoever reads it
takes a piece, counts it, and only then asks for the next.
"""

import zlib
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

Encoding: TypeAlias = Literal["gzip", "deflate"]

ENCODINGS: Final = ("gzip", "deflate")
IDENTITY: Final = "identity"
WORTH_BYTES: Final = 4096
"""Bodies from here on are compressed for who asks for it; a smaller one fits into a packet or three as it is."""
_PIECE_BYTES: Final = 256 * 1024
_WINDOW: Final = {"gzip": 31, "deflate": 15}  # what zlib calls wbits; RFC 9110's deflate has zlib's header
_HEADERLESS: Final = -15
_LEVEL: Final = 1  # most of the gain at a third of the time
_SMALLER: Final = 0.8
"""What is not smaller than this share of itself goes as it is: tensors of random bits, images."""
_ALIASES: Final = {"x-gzip": "gzip"}


class EncodingError(Exception):
    """Error of a body that is not what its encoding says."""


def encoding_of(header: str) -> Encoding | None:
    """The encoding that a `Content-Encoding` names; None if the body is as it is.

    Raises:
        LookupError: it is none that is known here.
    """
    names = [name for name in (part.strip().lower() for part in header.split(",")) if name and name != IDENTITY]
    if not names:
        return None
    name = _ALIASES.get(names[0], names[0])
    if len(names) > 1 or name not in ENCODINGS:
        raise LookupError(header)
    return name


class Decompressor:
    """Unpacks one body, piece by piece."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._unpacking = zlib.decompressobj(_WINDOW[encoding])
        self._begun = False

    def pieces(self, packed: bytes) -> Iterator[bytes]:
        """Unpack more of the body; no piece is larger than a quarter of a MiB.

        Raises:
            EncodingError: it is not what its encoding says.
        """
        rest, full = packed, False
        while rest or full:  # a full piece may not be the last, though all bytes were taken
            if self._unpacking.eof and rest:
                self._next_member()
            piece = self._unpack(rest)
            rest, full = self._unpacking.unconsumed_tail or self._unpacking.unused_data, len(piece) == _PIECE_BYTES
            yield piece

    def check_end(self) -> None:
        """Check that the body is whole.

        Raises:
            EncodingError: it ends too early.
        """
        if self._begun and not self._unpacking.eof:
            raise EncodingError(f"the body is no whole {self._encoding}: it ends too early")

    def _unpack(self, packed: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            if self._encoding == "deflate" and packed[0] & 0xF != zlib.DEFLATED:  # as some clients understood deflate
                self._unpacking = zlib.decompressobj(_HEADERLESS)
        try:
            return self._unpacking.decompress(packed, _PIECE_BYTES)
        except zlib.error as error:
            raise EncodingError(f"the body is no {self._encoding}, as its Content-Encoding says: {error}") from None

    def _next_member(self) -> None:
        """Begin the next of several files that make one gzip."""
        if self._encoding != "gzip":
            raise EncodingError(f"there are bytes after the end of the {self._encoding}")
        self._unpacking = zlib.decompressobj(_WINDOW["gzip"])


def accepted_encoding(header: str) -> Encoding | None:
    """The encoding that an `Accept-Encoding` likes best; None if that is none."""
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
    """Whether packing is likely to make a body much smaller, by its beginning."""
    return len(zlib.compress(body[:WORTH_BYTES], _LEVEL)) < _SMALLER * WORTH_BYTES


def compress(body: bytes, encoding: Encoding) -> bytes:
    """Pack a body."""
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW[encoding])
    return packing.compress(body) + packing.flush()
