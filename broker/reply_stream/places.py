"""Limits for a receiver's connections, in total and by address; connections in use keep their places. Pure.

Rules.
* A stranger is a connection that has not yet proved that it knows the token. There are few places for strangers. If all
  are taken, nobody else is admitted until the oldest stranger has had its place for `STRANGER_S`; then it is closed. A
  sender with the token needs a few milliseconds, and new connections wait in the order of their arrival. So strangers
  that stay silent, or connect again and again, block no other connection.
* A sender keeps its place while it sends data: it sends a keepalive if it has no results.
* If there is no place for another sender, the one whose last result is oldest is closed; one without a result goes
  first. So connections that are never used block no other connection. If all were used within `IN_USE_S`, the new one
  is refused.
* The senders of one address have a share of the places.
"""

from typing import Final, Generic, Protocol, TypeVar

MAX_STRANGERS: Final = 128
STRANGER_S: Final = 0.1
"""Seconds that a stranger keeps its place while others wait for one."""
MAX_SENDERS: Final = 1024
MAX_SENDERS_OF_ADDRESS: Final = 256
IN_USE_S: Final = 10.0
"""Seconds after its last result for which a sender keeps its place."""
SILENT_S: Final = 45.0
"""Seconds without data after which a sender counts as gone; it sends three keepalives in that time."""


class PlacedConnection(Protocol):
    """Attributes of a connection that decide about its place; times are of the event loop's clock."""

    host: str
    made_s: float
    """Time at which the connection was made."""
    heard_s: float
    """Time at which data last arrived."""
    used_s: float
    """Time at which a result last arrived; minus infinity if none has."""


_Peer = TypeVar("_Peer", bound=PlacedConnection)


class ConnectionPlaces(Generic[_Peer]):
    """Connections of one receiver."""

    def __init__(self) -> None:
        self.strangers: dict[_Peer, None] = {}
        """Connections that have not proved anything yet, the oldest first."""
        self.senders: dict[_Peer, None] = {}

    def greet(self, peer: _Peer) -> None:
        """Admit a stranger, for which there is a place."""
        self.strangers[peer] = None

    def crowded_out(self, now_s: float) -> tuple[_Peer | None, float]:
        """Return the stranger that must be closed to admit another one, if any, and the seconds until then."""
        if len(self.strangers) < MAX_STRANGERS:
            return None, 0.0
        oldest = next(iter(self.strangers))
        return oldest, max(oldest.made_s + STRANGER_S - now_s, 0.0)

    def admit(self, peer: _Peer, now_s: float) -> _Peer | None:
        """Make a stranger a sender; return the sender that must be closed for it, if any.

        Raises:
            ValueError: there is no place, since all are in use.
        """
        self.strangers.pop(peer, None)
        crowd = [known for known in self.senders if known.host == peer.host]
        if len(crowd) < MAX_SENDERS_OF_ADDRESS:
            crowd = list(self.senders) if len(self.senders) >= MAX_SENDERS else []
        least = min(crowd, key=lambda known: known.used_s, default=None)
        if least is not None:
            if now_s - least.used_s < IN_USE_S:
                raise ValueError(f"{len(self.senders)} senders use their connections, no other is accepted")
            del self.senders[least]
        self.senders[peer] = None
        return least

    def leave(self, peer: _Peer) -> None:
        """Forget a connection that has ended."""
        self.strangers.pop(peer, None)
        self.senders.pop(peer, None)

    def silent(self, now_s: float) -> list[_Peer]:
        """Return the senders that have sent no data for `SILENT_S`."""
        return [peer for peer in self.senders if now_s - peer.heard_s > SILENT_S]
