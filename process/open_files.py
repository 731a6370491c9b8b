"""Limit of the number of open files, sockets included, of this process."""

import sys

if sys.platform != "win32":  # the client library runs on Windows, too, which has no such limit
    import resource


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
