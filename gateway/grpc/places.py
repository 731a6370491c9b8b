"""Places for calls that may last for as long as their client likes: bounded in all, and for each who takes them.

Who has not said who they are is told apart by the address they come from, so whoever opens many calls from one keeps
out nobody elsewhere. What does not fit is refused at once.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from schemas.errors import Overloaded


class CallPlaces:
    """Places for the calls of one kind.

    Args:
        what: what holds a place, as an error says it.
        most: how many there are.
        each: how many one client may hold.
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
            Overloaded: there is none now, or none for this client.
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
    """The address in what gRPC calls a peer, such as `ipv4:10.0.0.1:4242`."""
    return peer.rpartition(":")[0] or peer
