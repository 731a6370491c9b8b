"""Requests whose body we encode ourselves, sent through aiokafka's connections; their answers come back as bytes.

aiokafka connects, authenticates and matches answers to requests; what it would build and take apart field by field, and
is asked many times a second, is packed and unpacked by `struct`.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import ClassVar, Self

from aiokafka.errors import IncompatibleBrokerVersion
from aiokafka.protocol.api import RequestStruct, Response
from aiokafka.protocol.types import Schema


class RawResponse(Response):
    """A response as it came, undecoded, after its header."""

    API_KEY = API_VERSION = 0  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    SCHEMA: ClassVar = Schema()

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> Self:
        """Take the answer as it is."""
        return cls(data if isinstance(data, bytes) else data.read())


class EncodedRequest(RequestStruct):
    """A request whose body is encoded already, in the place of one of aiokafka's."""

    API_KEY: ClassVar = 0
    API_VERSION: ClassVar = 0
    RESPONSE_TYPE: ClassVar = RawResponse
    SCHEMA: ClassVar = Schema()

    def __init__(self, body: bytes) -> None:
        self._body = body

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """Return the request for a broker of these versions, as aiokafka's own requests do.

        Raises:
            IncompatibleBrokerVersion: the broker is too old.
        """
        minimum, maximum = versions.get(self.API_KEY, (0, -1))
        if not minimum <= self.API_VERSION <= maximum:
            raise IncompatibleBrokerVersion(f"the broker does not know {type(self).__name__} v{self.API_VERSION}")
        return self

    def encode(self) -> bytes:
        """Return the body."""
        return self._body
