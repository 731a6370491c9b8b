"""Places of a receiver's connections: bounded in all and by address, and kept by those who use them. Pure.

Rules.
* A stranger, who has not proved yet that it was given the token, has a place among few. Where there is none left,
  nobody else is let in until the oldest has had its place for a moment; then it has to go. Who knows the token needs a
  few milliseconds, and whoever comes waits in the order of arrival, so strangers that stay silent, or come again and
  again, keep nobody out.
* A sender keeps its place while it is heard: it sends a keepalive where it has no results.
* Where there is no place for another sender, the one goes whose last result is longest ago, at once if it has sent
  none. So connections that are never used keep nobody out; one that was used a moment ago stays, and the newcomer goes.
* The senders of one address have a share of the places.
"""

from typing import Final, Generic, Protocol, TypeVar

MAX_STRANGERS: Final = 128
STRANGER_S: Final = 0.1
"""Seconds that a stranger keeps its place while others wait for one."""
MAX_SENDERS: Final = 1024
MAX_SENDERS_OF_ADDRESS: Final = 256
IN_USE_S: Final = 10.0
"""Seconds after its last result in which a sender's place is not given to another."""
SILENT_S: Final = 45.0
"""Seconds after which a sender that is not heard is gone; three keepalives of a sender fit in."""


class PlacedConnection(Protocol):
    """A connection, as far as its place goes; times are of the loop's clock."""

    host: str
    made_s: float
    """When it was made."""
    heard_s: float
    """When anything came last."""
    used_s: float
    """When a result came last; minus infinity: none has."""


_Peer = TypeVar("_Peer", bound=PlacedConnection)


class ConnectionPlaces(Generic[_Peer]):
    """Connections of one receiver."""

    def __init__(self) -> None:
        self.strangers: dict[_Peer, None] = {}
        """Those that have not proved anything yet, the oldest first."""
        self.senders: dict[_Peer, None] = {}

    def greet(self, peer: _Peer) -> None:
        """Take in a stranger, for which there is a place."""
        self.strangers[peer] = None

    def crowded_out(self, now_s: float) -> tuple[_Peer | None, float]:
        """Find a place for another stranger: the one that has to go for it, if any, and the seconds until then."""
        if len(self.strangers) < MAX_STRANGERS:
            return None, 0.0
        oldest = next(iter(self.strangers))
        return oldest, max(oldest.made_s + STRANGER_S - now_s, 0.0)

    def admit(self, peer: _Peer, now_s: float) -> _Peer | None:
        """Make a stranger a sender; returns the sender that has to go for it, if any.

        Raises:
            ValueError: there is no place, for all are in use.
        """
        self.strangers.pop(peer, None)
        crowd = [known for known in self.senders if known.host == peer.host]
        if len(crowd) < MAX_SENDERS_OF_ADDRESS:
            crowd = list(self.senders) if len(self.senders) >= MAX_SENDERS else []
        least = min(crowd, key=lambda known: known.used_s, default=None)
        if least is not None:
            if now_s - least.used_s < IN_USE_S:
                raise ValueError(f"{len(self.senders)} senders use their connections, there is no place for another")
            del self.senders[least]
        self.senders[peer] = None
        return least

    def leave(self, peer: _Peer) -> None:
        """Forget a connection that has ended."""
        self.strangers.pop(peer, None)
        self.senders.pop(peer, None)

    def silent(self, now_s: float) -> list[_Peer]:
        """Senders that have not been heard for so long that they must be gone."""
        return [peer for peer in self.senders if now_s - peer.heard_s > SILENT_S]
