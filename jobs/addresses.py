"""Addresses that a webhook may call. Pure.

A host name may resolve to an address that only we can reach: on this machine, in its network or in its cloud. The check
therefore applies to the resolved address, at the moment of the connection.
"""

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))
"""IPv6 networks that are translated to arbitrary IPv4 addresses."""


def may_call(address: str, networks: Collection[Network]) -> bool:
    """Return true if an address is public or belongs to one of `networks`."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found.version == network.version and found in network for network in networks) or _is_public(found)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and (
        address.sixtofour is not None or address.teredo is not None or any(address in part for part in _TRANSLATED)
    ):
        return False
    return address.is_global and not address.is_multicast
