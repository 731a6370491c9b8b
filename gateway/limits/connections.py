"""Limit of open connections of a listener, and of the time in which their clients must send and read.

A listener accepts as many connections as set, or fewer if the limit of open files is low: without a free file a process
cannot reach Kafka and Postgres either.
"""

from typing import Final, NamedTuple

from gateway.settings import GatewaySettings
from process.open_files import allow_open_files
from schemas.errors import Overloaded, RefusalReason

_OWN_FILES: Final = 256
"""Open files reserved for uses other than client connections, such as Kafka and Postgres."""


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


def connections_each(settings: GatewaySettings) -> int:
    """Return the maximum connections of each listener: as set, or fewer if the limit of open files is low."""
    listeners = 1 if settings.grpc_port is None else 2
    allowed = allow_open_files(listeners * settings.max_connections + _OWN_FILES) - _OWN_FILES
    return max(allowed // listeners, 1)
