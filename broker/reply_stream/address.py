"""Address of a receiver in the query's header `infaas-reply-stream`: `host:port token fingerprint`.

The host is an IP address, since a sender must not look up names on behalf of an unknown author. Without a fingerprint
the results are not encrypted.
"""

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final, NamedTuple

from broker.reply_stream.encryption import FINGERPRINT_LENGTH

MAX_LENGTH: Final = 200
"""Largest number of characters of a header that is read."""
MIN_TOKEN: Final = 16


class StreamAddress(NamedTuple):
    """Address of a receiver, and its reply token: the secret that authenticates its senders."""

    host: str
    port: int
    token: str
    fingerprint: str = ""
    """Fingerprint of its certificate; empty if it does not use TLS."""

    def __repr__(self) -> str:
        return f"{self.host}:{self.port}"

    def header(self) -> str:
        """Return the address as text of the header."""
        place = f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        return f"{place} {self.token} {self.fingerprint}".rstrip()

    def is_within(self, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
        """Return true if the host belongs to one of the networks."""
        host = ip_address(self.host)
        return any(host in network for network in networks)

    @property
    def is_loopback(self) -> bool:
        """True if results for it do not leave the machine."""
        return ip_address(self.host).is_loopback


def parse_address(text: str) -> StreamAddress | None:
    """Parse the text of a header; None if it is no address, or if its token is too short."""
    place, _space, secret = text.partition(" ")
    token, space, fingerprint = secret.partition(" ")
    host, colon, port = place.rpartition(":")
    is_port = port.isascii() and port.isdigit() and len(port) <= 5
    if not (colon and is_port and len(text) <= MAX_LENGTH and len(token) >= MIN_TOKEN) or "%" in host:
        return None
    if space and len(fingerprint) != FINGERPRINT_LENGTH:
        return None
    try:
        known = ip_address(host[1:-1] if host[:1] == "[" and host[-1:] == "]" else host)
    except ValueError:
        return None
    return StreamAddress(str(known), int(port), token, fingerprint) if 0 < int(port) < 65_536 else None
