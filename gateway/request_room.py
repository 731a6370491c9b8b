"""Room for the requests of all clients, whole or not: bounded in their sum, whichever protocol they come by.

What has arrived is counted, not what was announced: a connection that only promises costs nothing. The last quarter of
the room is for small requests, so that large uploads, finished or not, never keep the usual query out. What does not
fit is refused at once, rather than left to wait: its bytes would lie in buffers meanwhile.
"""

from typing import Final

from prometheus_client import Gauge

from schemas.errors import Overloaded

SMALL_BYTES: Final = 256 * 1024
LARGE_SHARE: Final = 0.75
"""Share of the room that requests larger than small may fill."""
HELD: Final = Gauge("infaas_gateway_body_bytes", "Bytes of request bodies that are held, whole or not")


class RequestRoom:
    """Room for the requests that one gateway holds at once."""

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self._most_large = int(LARGE_SHARE * max_bytes)
        self.held = 0
        """Bytes held now."""
        HELD.set_function(lambda: self.held)

    def take(self, size: int, taken: int = 0) -> None:
        """Take room for more of a request, of which `taken` bytes have theirs already.

        Raises:
            Overloaded: there is none now.
        """
        if self.held + size > (self._most if taken + size <= SMALL_BYTES else self._most_large):
            raise Overloaded("the gateway holds as many bytes of requests as it may; try again later")
        self.held += size

    def release(self, size: int) -> None:
        """Give room back."""
        self.held -= size
