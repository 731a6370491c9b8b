"""Requests with a body encoded by this package, sent over aiokafka's connections; their answers are returned as bytes.

aiokafka connects, authenticates, and matches answers to requests. Frequent requests are packed and unpacked by
`struct`, which is faster than aiokafka's encoding field by field.
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
