"""What a query says of the receiver of its result: `host:port token`, in the header `infaas-reply-stream`.

The host is an IP address: a sender looks up no names on behalf of whoever wrote a query.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple

MAX_LENGTH: Final = 200
"""Characters of the longest header that is read."""
MIN_TOKEN: Final = 16


class StreamAddress(NamedTuple):
    """Where a receiver listens, and its reply token: the secret by which it knows its senders."""

    host: str
    port: int
    token: str

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"

    def header(self) -> str:
        """The address as a header's text."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port} {self.token}"

    def is_within(self, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
        """Whether the host belongs to one of the networks."""
        host = ip_address(self.host)
        return any(host in network for network in networks)


def parse_address(text: str) -> StreamAddress | None:
    """Read a header's text; None: it is no address, or one without a token to speak of."""
    place, _space, token = text.partition(" ")
    host, colon, port = place.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5
    if not (colon and is_port and len(text) <= MAX_LENGTH and len(token) >= MIN_TOKEN) or "%" in host:
        return None
    try:
        known = ip_address(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host)
    except ValueError:
        return None
    return StreamAddress(str(known), int(port), token) if 0 < int(port) < 65_536 else None
