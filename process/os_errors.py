"""Messages for errors of the operating system that state a remedy. Pure.

A command or a service ends with such a message instead of a traceback, since the cause is the machine's state and not a
defect.
"""

import errno
import os
import socket
from typing import Final

_WORDS: Final = {
    errno.ENOENT: "there is no {place}",
    errno.EACCES: "{place} may not be read or written by this user: change its owner or its mode",
    errno.EPERM: "{place} may not be changed by this user: change its owner or its mode",
    errno.EROFS: "{place} is on a file system that cannot be written to: choose another folder",
    errno.ENOTDIR: "{place} is no folder, or has a file where a folder is needed: choose another one",
    errno.EEXIST: "{place} is there already, and is no folder: choose another one",
    errno.EISDIR: "{place} is a folder: name a file",
    errno.ENOSPC: "{place} cannot be written: the disk is full",
    errno.EDQUOT: "{place} cannot be written: this user may use no more of the disk",
    errno.ENAMETOOLONG: "{place} is too long for a name of a file",
    errno.EMFILE: "{place} cannot be opened: this process has as many files open as it may; raise `ulimit -n`",
}
_LISTEN: Final = {
    errno.EADDRINUSE: "port {port} of {host} is taken ({reason}); choose another {flag}",
    errno.EADDRNOTAVAIL: "{host} is no address of this machine ({reason}): port {port} cannot be listened on there",
    errno.EACCES: "port {port} of {host} needs more rights than this user has ({reason}); choose another {flag}",
}
_SHOWN: Final = 200


def os_error_words(error: OSError) -> str:
    """Return a message with the cause of an error and its remedy."""
    if isinstance(error, socket.gaierror):
        return f"a host is not known ({error.strerror}): is its name spelt right?"
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
        return f"{host[:_SHOWN]!r} is no name of a host"
    if isinstance(error, socket.gaierror):
        return f"host {host!r} is not known ({error.strerror}): port {port} cannot be listened on there"
    words = _LISTEN.get(
        error.errno or 0, "port {port} of {host} cannot be listened on ({reason}); choose another {flag}"
    )
    return words.format(host=host, port=port, reason=reason_of(error), flag=flag)


def reason_of(error: OSError) -> str:
    """Return the system's text for an error."""
    return error.strerror or str(error) or type(error).__name__
