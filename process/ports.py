"""TCP ports: asked about before anything is started, so that a taken one is an error that names its flag.

What is found free is used seconds later. The kernel gives ports of a range of its own to whoever connects somewhere, so
one of that range may be taken by then; those below it are taken only by who listens.
"""

import random
import socket
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from process.os_errors import listen_words
from schemas.defaults import LOOPBACK
from schemas.errors import OperatorError

LAST_PORT: Final = 65_535
_LOWEST: Final = 20_000
_RANGE_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES: Final = 100
_given: Final[deque[int]] = deque(maxlen=256)
"""Ports that were found free lately: nobody may listen on them yet."""


def free_port(host: str = LOOPBACK) -> int:
    """Find a port that nobody listens on now, and that this process has not found lately.

    Another process may take it before its user does.

    Raises:
        OperatorError: `host` is no address of this machine.
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
    """The port that can be bound to, of the kernel's choice for 0."""
    with _probe(host) as probe:
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _probe(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)


def _first_of_connections() -> int:
    """The first port that the kernel gives to connections; 0: it does not say."""
    try:
        return int(_RANGE_OF_CONNECTIONS.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def address_text(host: str, port: int) -> str:
    """The two as one text, as in a URL: an address of IPv6 stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def claim_port(port: int, flag: str, host: str = LOOPBACK) -> int:
    """Check that `port` is free, or find a free one for 0; returns it.

    Raises:
        OperatorError: somebody listens on it, or it is none of this machine; the message names `flag`.
    """
    if port == 0:
        return free_port(host)
    if port > LAST_PORT:
        raise OperatorError(f"{port} is no port, the last is {LAST_PORT}; choose another {flag}")
    with _probe(host) as probe:
        # As servers do: a port whose last connections only wait to be forgotten is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError, UnicodeError) as error:  # the latter for what is no name at all
            raise OperatorError(listen_words(host, port, error, flag)) from error
    return port
