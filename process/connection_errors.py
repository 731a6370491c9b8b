"""Error messages for failed connections; they say whether the host or the port is at fault."""

import errno
import socket
from typing import Final

_REFUSED: Final = f"[Errno {errno.ECONNREFUSED}]"


def is_host(name: str) -> bool:
    """Return true if `name` can be encoded as a host name.

    Resolvers raise UnicodeError, which is no OSError, for a name that cannot be encoded.
    """
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


def why_not_connected(host: str, port: int | str, error: BaseException) -> str:
    """Return the reason why a connection to `host:port` failed, with a remedy where one is clear."""
    if isinstance(error, socket.gaierror):
        if error.errno == socket.EAI_AGAIN:
            return f"cannot look up host {host!r}: no DNS server answers; is the network up?"
        return unknown_host(host)
    if isinstance(error, ConnectionRefusedError) or _REFUSED in str(error):  # an error for several addresses
        return f"nobody listens at {host}:{port}"
    if isinstance(error, TimeoutError):
        return f"{host}:{port} does not answer"
    return f"{host}:{port}: {error}"


def unknown_host(host: str) -> str:
    """Return the message for a host name that does not exist."""
    return f"unknown host {host!r}: check its spelling"
