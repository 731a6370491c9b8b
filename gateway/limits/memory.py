"""Memory limit for requests of all clients and protocols, complete or not.

Received bytes count rather than announced ones: a connection that only announces a body costs nothing. The last quarter
of the memory is reserved for small requests, so that large uploads never block ordinary queries. A request that exceeds
the limit is refused at once; while it waited, its bytes would occupy other buffers.
"""

from typing import Final

from prometheus_client import Gauge

from schemas.errors import Overloaded, RefusalReason

SMALL_BYTES: Final = 256 * 1024
LARGE_SHARE: Final = 0.75
"""Share of the memory that requests above `SMALL_BYTES` may use."""
HELD: Final = Gauge("infaas_gateway_body_bytes", "Bytes of request bodies that are held, whole or not")


class BodyBudget:
    """Memory for the requests that one gateway holds at once."""

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self._most_large = int(LARGE_SHARE * max_bytes)
        self.held = 0
        """Bytes held now."""
        HELD.set_function(lambda: self.held)

    def take(self, size: int, taken: int = 0) -> None:
        """Reserve `size` further bytes for a request that already holds `taken`.

        Raises:
            Overloaded: the memory is exhausted.
        """
        if self.held + size > (self._most if taken + size <= SMALL_BYTES else self._most_large):
            message = "the gateway holds as many bytes of requests as it may; try again later"
            raise Overloaded(message, reason=RefusalReason.BODY_MEMORY)
        self.held += size

    def release(self, size: int) -> None:
        """Release bytes."""
        self.held -= size
