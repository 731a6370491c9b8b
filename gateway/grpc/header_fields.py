"""Header blocks of HTTP/2 (HPACK, RFC 7541): decoded by the library hpack, with a cache, and encoded as literals.

A client repeats its headers, and after its first calls a block consists of references to the table of the connection.
A decoded block is valid until that table changes. Fields are encoded as literals without indexing and without Huffman's
code, which takes 10 µs a field in Python.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final, cast

from hpack import Decoder, HPACKError
from hpack.table import HeaderTable

RawFields = list[tuple[bytes, bytes]]
_CACHED: Final = 64
_PREFIX_7: Final = 0x7F
_REQUIRED: Final = (":method", ":path")
_BINARY: Final = "-bin"


class InvalidHeaders(Exception):
    """A header block cannot be decoded, so neither can the later ones of its connection."""


class _WatchedTable(HeaderTable):
    """Table that counts its changes."""

    changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        cast("Any", HeaderTable.maxsize).fset(self, newmax)


class HeaderBlockDecoder:
    """Decoder of the header blocks of one connection."""

    def __init__(self, most_bytes: int) -> None:
        """Refuse blocks with names and values of more than `most_bytes`, decoded."""
        self._decoder = Decoder(max_header_list_size=most_bytes)
        self._table = _WatchedTable()
        self._decoder.header_table = self._table
        self._cache: dict[bytes, dict[str, str] | None] = {}

    def decode(self, block: bytes) -> dict[str, str] | None:
        """Return the fields without binary ones; the last of a repeated name counts. None: no valid request.

        Raises:
            InvalidHeaders: the block cannot be decoded.
        """
        if block in self._cache:
            return self._cache[block]
        changes = self._table.changes
        try:
            fields = _checked(self._decoder.decode(block, raw=True))
        except (HPACKError, IndexError, ValueError) as error:
            raise InvalidHeaders(f"a header block cannot be decoded: {error}") from None
        if self._table.changes != changes or len(self._cache) >= _CACHED:
            self._cache.clear()
        if self._table.changes == changes:
            self._cache[block] = fields
        return fields


def _checked(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    for name, value in fields:
        text = value.decode("latin-1")
        if not text.isprintable() and any(character in text for character in "\0\r\n"):
            return None
        found[name.decode("latin-1")] = text
    if not all(found.get(name) for name in _REQUIRED):
        return None
    return {name: text for name, text in found.items() if not name.endswith(_BINARY)}


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode header fields."""
    return b"".join([_encoded_name(name) + _encoded(value) for name, value in fields])


@lru_cache(256)
def _encoded_name(name: bytes) -> bytes:
    return b"\x00" + _encoded(name)


def _encoded(text: bytes) -> bytes:
    """Encode a string (section 5.2)."""
    size = len(text)
    if size < _PREFIX_7:
        return bytes((size,)) + text
    found = bytearray((_PREFIX_7,))
    size -= _PREFIX_7
    while size > 0x7F:
        found.append(size & 0x7F | 0x80)
        size >>= 7
    found.append(size)
    return bytes(found) + text
