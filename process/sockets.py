"""Sockets of a process: their ports, their exposure to the network, and the limit of their number.

A free port is used only seconds later. The kernel takes ports of outgoing connections from a range of its own, so a
port of that range may be taken by then. Free ports are therefore chosen below the range, where only listeners take
ports. A port is checked before any process starts, so that the error for a taken port names its flag.

Only users of this machine can reach a listener on loopback. Every client that the network admits can reach a listener
on another address, and the operator of a service seldom controls that network. Such an address therefore needs
authentication or an explicit permission.
"""

import random
import socket
import sys
from collections import deque
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from process.errors import listen_words
from schemas.defaults import LOOPBACK
from schemas.errors import OperatorError

LAST_PORT: Final = 65_535
_LOWEST: Final = 20_000
_RANGE_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES: Final = 100
_given: Final[deque[int]] = deque(maxlen=256)
"""Ports that were found free recently; their users may not listen on them yet."""
_LOCAL = "localhost"
if sys.platform != "win32":  # the client library runs on Windows, too, which has no such limit
    import resource


def free_port(host: str = LOOPBACK) -> int:
    """Find a port without a listener that this process has not returned recently.

    Another process may take the port before its user listens on it.

    Raises:
        OperatorError: `host` is not an address of this machine.
    """
    port = _unused_port(host)
    while port in _given:
        port = _unused_port(host)
    _given.append(port)
    return port


def _unused_port(host: str) -> int:
    highest = _first_of_connections() - 1
    if highest > _LOWEST:
        for _ in range(_TRIES):
            with suppress(OSError):
                return _bound(host, random.randint(_LOWEST, highest))
    try:
        return _bound(host, 0)
    except (OSError, TypeError, UnicodeError) as error:
        raise OperatorError(listen_words(host, 0, error, "host")) from error


def _bound(host: str, port: int) -> int:
    """Return the port that could be bound; the kernel chooses it if `port` is 0."""
    with _probe(host) as probe:
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _probe(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _first_of_connections() -> int:
    """Return the first port of the kernel's range for outgoing connections; 0 if unknown."""
    try:
        return int(_RANGE_OF_CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def address_text(host: str, port: int) -> str:
    """Return `host:port` as in a URL; IPv6 addresses are in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def claim_port(port: int, flag: str, host: str = LOOPBACK) -> int:
    """Check that `port` is free, or find a free one for 0; return it.

    Raises:
        OperatorError: the port is taken, or `host` is not an address of this machine; the message names `flag`.
    """
    if port == 0:
        return free_port(host)
    if port > LAST_PORT:
        raise OperatorError(f"{port} is not a port, the last is {LAST_PORT}; choose another {flag}")
    with _probe(host) as probe:
        # Servers set this, too: a port whose last connections are in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError, UnicodeError) as error:  # the last two: not a host name
            raise OperatorError(listen_words(host, port, error, flag)) from error
    return port


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


def open_files_limit(most: int) -> int:
    """Return the present limit of open files, at most `most`."""
    if sys.platform == "win32":
        return most
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(soft, most)


def allow_open_files(wanted: int) -> int:
    """Raise the limit of open files to `wanted`, or to the maximum permitted; return the new limit."""
    allowed = open_files_limit(wanted)
    if sys.platform != "win32" and allowed < wanted:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
