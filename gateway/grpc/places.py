"""Limits of calls without a maximum duration: in total, and for each client.

Unauthenticated clients are identified by their address, so that many calls from one address block no other address. A
call above the limit is refused at once.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from schemas.errors import Overloaded


class CallPlaces:
    """Limit of concurrent calls of one kind.

    Args:
        what: name of the calls in error messages.
        most: maximum number of calls.
        each: maximum number of calls of one client.
    """

    def __init__(self, what: str, most: int, each: int) -> None:
        self._what = what
        self._most = most
        self._each = each
        self._held = Counter[str]()

    @contextmanager
    def taken(self, client: str) -> Generator[None]:
        """Hold a place for a client while the context is open.

        Raises:
            Overloaded: no place is free, or the client uses its maximum.
        """
        if self._held[client] >= self._each:
            raise Overloaded(f"{self._each} {self._what} of one client are open here; end one first")
        if self._held.total() >= self._most:
            raise Overloaded(f"{self._most} {self._what} are open here; try again later")
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]


def host_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as `ipv4:10.0.0.1:4242`."""
    return peer.rpartition(":")[0] or peer
