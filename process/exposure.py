"""Check of listening addresses: an address beyond loopback needs authentication or an explicit permission.

Only users of this machine can reach a listener on loopback. Every client that the network admits can reach a listener
on another address, and the operator of a service seldom controls that network.
"""

from ipaddress import ip_address

from schemas.errors import OperatorError

_LOCAL = "localhost"


def is_loopback(host: str) -> bool:
    """Return true if `host` is a loopback address or `localhost`; any other name may resolve to any address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == _LOCAL


def require_guard(what: str, host: str, *, guarded: bool, allowed: bool, remedy: str) -> None:
    """Check that an address beyond this machine admits no anonymous clients by accident.

    Args:
        what: the setting that holds the address, as written in error messages.
        host: the address.
        guarded: true if clients must authenticate.
        allowed: true if the operator has allowed anonymous clients.
        remedy: the settings to change, as written in the error message.

    Raises:
        OperatorError: the address admits anonymous clients, and the operator has not allowed it.
    """
    if not (is_loopback(host) or guarded or allowed):
        raise OperatorError(
            f"{what} {host or '(all addresses)'} admits unauthenticated clients from the network: {remedy}"
        )
