"""Limits of open connections, and of concurrent calls whose duration the client determines. Pure.

Such calls are streams, watches and uploads. Their limit holds in total and for each client, so that one client blocks
no other. A connection or a call above the limit is refused at once.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from schemas.errors import Overloaded, RefusalReason


class ConnectionLimits(NamedTuple):
    """Limits of the connections of a listener."""

    connections: int
    """Maximum number of open connections."""
    timeout_s: float
    """Seconds in which the head of a request must arrive, and a response must be read."""

    def refusal(self, opened: int) -> Overloaded | None:
        """Return the error of a new connection, the `opened`-th; None if it is accepted."""
        if opened <= self.connections:
            return None
        message = f"{self.connections} connections are open here; try again later"
        return Overloaded(message, reason=RefusalReason.CONNECTION_LIMIT)


class CallLimit:
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
            message = f"{self._each} {self._what} of one client are open here; end one first"
            raise Overloaded(message, reason=RefusalReason.CLIENT_CALL_LIMIT)
        if self._held.total() >= self._most:
            message = f"{self._most} {self._what} are open here; try again later"
            raise Overloaded(message, reason=RefusalReason.CALL_LIMIT)
        self._held[client] += 1
        try:
            yield
        finally:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]
