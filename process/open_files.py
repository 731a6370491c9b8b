"""The number of files, sockets among them, that this process may have open."""

import sys

if sys.platform != "win32":  # there the client library runs, too, and nothing says how many
    import resource


def open_files_limit(most: int) -> int:
    """The number of files that this process may have open at present; `most` where it may have more."""
    if sys.platform == "win32":
        return most
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(soft, most)


def allow_open_files(wanted: int) -> int:
    """Have this process open `wanted` files, or as many as the system lets it; returns how many it may open now."""
    allowed = open_files_limit(wanted)
    if sys.platform != "win32" and allowed < wanted:
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
