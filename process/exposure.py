"""What listens beyond this machine: nothing that lets anyone in, unless a person has said so.

Whoever listens on loopback is reached by users of this machine alone; on any other address by whoever the network lets
through, and that is seldom known to who starts a service.
"""

from ipaddress import ip_address

from schemas.errors import OperatorError

_LOCAL = "localhost"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`; a name other than localhost may be any address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == _LOCAL


def require_guard(what: str, host: str, *, guarded: bool, allowed: bool, remedy: str) -> None:
    """Check that nobody is let in unasked who comes from elsewhere.

    Args:
        what: The setting that names the address, as people write it.
        host: The address.
        guarded: Whether whoever comes must say who they are.
        allowed: Whether a person said that anyone may come.
        remedy: What to set for either.

    Raises:
        OperatorError: anyone would be let in, and nobody wanted that.
    """
    if not (is_loopback(host) or guarded or allowed):
        raise OperatorError(f"{what} {host or '(all addresses)'} lets anyone in who reaches this machine: {remedy}")
