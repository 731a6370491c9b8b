"""Errors for people: messages that state cause and remedy of system and connection errors; flat exception groups. Pure.

A command or a service ends with such a message instead of a traceback, since the cause is the machine's state and not a
defect.
"""

import errno
import os
import socket
from typing import Final, TypeVar

_Error = TypeVar("_Error", bound=Exception)
_WORDS: Final = {
    errno.ENOENT: "there is no {place}",
    errno.EACCES: "this user may not read or write {place}: change its owner or its mode",
    errno.EPERM: "this user may not change {place}: change its owner or its mode",
    errno.EROFS: "{place} is on a read-only file system: choose another folder",
    errno.ENOTDIR: "{place} is not a folder, or has a file in place of a folder: choose another one",
    errno.EEXIST: "{place} exists already and is not a folder: choose another one",
    errno.EISDIR: "{place} is a folder, not a file",
    errno.ENOSPC: "{place} cannot be written: the disk is full",
    errno.EDQUOT: "{place} cannot be written: this user's disk quota is used up",
    errno.ENAMETOOLONG: "{place} is too long for a file name",
    errno.EMFILE: "{place} cannot be opened: this process has reached its limit of open files; raise `ulimit -n`",
}
_LISTEN: Final = {
    errno.EADDRINUSE: "port {port} of {host} is in use ({reason}); choose another {flag}",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine ({reason}): cannot listen on port {port} there",
    errno.EACCES: "this user may not listen on port {port} of {host} ({reason}); choose another {flag}",
}
_SHOWN: Final = 200
_REFUSED: Final = f"[Errno {errno.ECONNREFUSED}]"


def leaves(group: BaseExceptionGroup[_Error]) -> list[_Error]:
    """Return all exceptions of a group that are not groups themselves."""
    found: list[_Error] = []
    for error in group.exceptions:
        found += leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def os_error_words(error: OSError) -> str:
    """Return a message with the cause of an error and its remedy."""
    if isinstance(error, socket.gaierror):
        return f"unknown host ({error.strerror}): check the spelling of its name"
    if error.filename is None:
        place = "a file" if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EMFILE) else ""
    else:
        place = os.fsdecode(error.filename)[:_SHOWN] if not isinstance(error.filename, int) else "a file"
    words = _WORDS.get(error.errno or 0)
    if words is None or not place:
        return f"{place}: {reason_of(error)}" if place else str(error) or reason_of(error)
    return words.format(place=place)


def listen_words(host: str, port: int, error: Exception, flag: str) -> str:
    """Return the message for a host and port that cannot be listened on; `flag` is the setting to change."""
    if not isinstance(error, OSError):
        return f"{host[:_SHOWN]!r} is not a host name"
    if isinstance(error, socket.gaierror):
        return f"unknown host {host!r} ({error.strerror}): cannot listen on port {port} there"
    words = _LISTEN.get(error.errno or 0, "cannot listen on port {port} of {host} ({reason}); choose another {flag}")
    return words.format(host=host, port=port, reason=reason_of(error), flag=flag)


def reason_of(error: OSError) -> str:
    """Return the system's text for an error."""
    return error.strerror or str(error) or type(error).__name__


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
