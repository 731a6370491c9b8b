"""Limit of concurrent calls whose duration the client determines: streams, watches and uploads.

It holds in total and for each client, so that one client blocks no other. A call above the limit is refused at once.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from schemas.errors import Overloaded, RefusalReason


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
