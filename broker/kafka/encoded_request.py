"""Requests with a body encoded by this package, sent over aiokafka's connections; their answers are returned as bytes.

aiokafka connects, authenticates, and matches answers to requests. Frequent requests are packed and unpacked by
`struct`, which is faster than aiokafka's encoding field by field.

Newer versions of Kafka's protocol have variable-length integers and compact strings (KIP-482). A length is written as
length + 1; 0 stands for null. Tagged fields, which are optional, end each structure.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import ClassVar, Self

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Schema


class RawResponse(Response):
    """Response that is not decoded: the bytes after its header."""

    API_KEY = API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema()

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> Self:
        """Return a response that holds the bytes."""
        return cls(data if isinstance(data, bytes) else data.read())


class EncodedRequest(RequestStruct):
    """Request with an encoded body, used in place of a request class of aiokafka."""

    API_KEY: ClassVar = 0
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = RawResponse
    SCHEMA: ClassVar = Schema()

    def __init__(self, body: bytes) -> None:
        self._body = body

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """Return the request if the broker supports its version; aiokafka calls this before it sends a request.

        Raises:
            IncompatibleBrokerVersion: the broker is too old.
        """
        minimum, maximum = versions.get(self.API_KEY, (0, -1))
        if not minimum <= self.API_VERSION <= maximum:
            raise IncompatibleBrokerVersion(f"the broker does not support {type(self).__name__} v{self.API_VERSION}")
        return self

    def encode(self) -> bytes:
        """Return the body."""
        return self._body


def varint(value: int) -> bytes:
    """Encode an integer that is not negative."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def compact(text: str) -> bytes:
    """Encode a string."""
    data = text.encode()
    return varint(len(data) + 1) + data


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode an integer; return it and the position behind it."""
    value = data[at]
    if value < 0x80:
        return value, at + 1
    value &= 0x7F
    shift = 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7


def read_compact(data: bytes, at: int) -> tuple[str, int]:
    """Decode a string; return it and the position behind it."""
    length, at = read_varint(data, at)
    end = at + length - 1
    return data[at:end].decode(), end


def skip_tags(data: bytes, at: int) -> int:
    """Return the position behind the tagged fields that begin at `at`."""
    count, at = read_varint(data, at)
    for _ in range(count):
        _tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        at += size
    return at


def find_tag(data: bytes, at: int, wanted: int) -> tuple[int, int]:
    """Find a tagged field; return the position of its value, or -1, and the position behind all tagged fields."""
    count, at = read_varint(data, at)
    found = -1
    for _ in range(count):
        tag, at = read_varint(data, at)
        size, at = read_varint(data, at)
        if tag == wanted:
            found = at
        at += size
    return found, at
