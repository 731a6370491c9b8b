"""Why a connection could not be made, in words that say which of the two names is wrong: the host or the port."""

import errno
import socket
from typing import Final

_REFUSED: Final = f"[Errno {errno.ECONNREFUSED}]"


def is_host(name: str) -> bool:
    """Whether a name may be a host's; a resolver raises what is no OSError for one that may not."""
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def why_not_connected(host: str, port: int | str, error: BaseException) -> str:
    """Tell what the operating system said when `host:port` was connected to, and what to do where that is clear."""
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return f"host {host!r} cannot be looked up: no DNS server answers; is there a network?"
        return unknown_host(host)
    if isinstance(error, ConnectionRefusedError) or _REFUSED in str(error):  # of several addresses, in one error
        return f"nobody listens at {host}:{port}"
    if isinstance(error, TimeoutError):
        return f"{host}:{port} does not answer"
    return f"{host}:{port}: {error}"


def unknown_host(host: str) -> str:
    """Tell that a name is of no host."""
    return f"unknown host {host!r}: is it spelt right?"
