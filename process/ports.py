"""TCP ports: asked about before anything is started, so that a taken one is an error that names its flag."""

import socket
from collections import deque
from typing import Final

from schemas.defaults import LOOPBACK
from schemas.errors import OperatorError

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
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise OperatorError(f"cannot listen on {host}: {error.strerror}") from error
        return int(probe.getsockname()[1])


def claim_port(port: int, flag: str, host: str = LOOPBACK) -> int:
    """Check that `port` is free, or find a free one for 0; returns it.

    Raises:
        OperatorError: somebody listens on it; the message names `flag`.
    """
    if port == 0:
        return free_port(host)
    with socket.socket() as probe:
        # As servers do: a port whose last connections only wait to be forgotten is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperatorError(f"port {port} of {host} is taken ({error.strerror}); choose another {flag}") from error
    return port
