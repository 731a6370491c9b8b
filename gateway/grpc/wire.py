"""Protobuf messages around large tensors, without a copy of the tensors.

protobuf copies each field of bytes when it parses a message, and again when the field is read. This module scans the
top level of a message by the encoding's rules (https://protobuf.dev/programming-guides/encoding), one step a field. It
returns the occurrences of one field as views and leaves the other fields to protobuf.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from schemas.errors import InvalidRequest

Piece: TypeAlias = bytes | memoryview
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED: Final = {_FIXED64: 8, _FIXED32: 4}
_LONGEST_VARINT: Final = 10


def split_field(message: bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """Return the message without a field of bytes, and the contents of all occurrences of that field.

    Raises:
        InvalidRequest: the message is malformed.
    """
    view, size, at, kept_from = memoryview(message), len(message), 0, 0
    rest, found = list[Piece](), list[memoryview]()
    wanted = number << 3 | _BYTES
    while at < size:
        began = at
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _BYTES:
            length, at = _varint(message, at)
            end = at + length
        elif kind == _VARINT:
            _, end = _varint(message, at)
        else:
            end = at + _fixed(kind)
        if end > size:
            raise _cut_off()
        if tag == wanted:
            found.append(view[at:end])
            rest.append(view[kept_from:began])
            kept_from = end
        at = end
    if not found:
        return message, found
    return b"".join((*rest, view[kept_from:])), found


def field(number: int, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the encoding of a field of bytes, or of a message, with the content `pieces`."""
    length = sum(map(len, pieces))
    return [_encoded(number << 3 | _BYTES) + _encoded(length), *pieces]


def joined(pieces: Iterable[Piece]) -> bytes:
    """Return the message of these pieces; this is their only copy."""
    return b"".join(pieces)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position, and the position after it."""
    value = shift = 0
    try:
        for place in range(at, at + _LONGEST_VARINT):
            byte = message[place]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, place + 1
            shift += 7
    except IndexError:
        raise _cut_off() from None
    raise InvalidRequest("the message is no protobuf: a number in it has no end")


def _fixed(kind: int) -> int:
    size = _FIXED.get(kind)
    if size is None:
        raise InvalidRequest(f"the message is no protobuf: it has a field of the unknown kind {kind}")
    return size


def _cut_off() -> InvalidRequest:
    return InvalidRequest("the message is no protobuf: it ends within a field")


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
