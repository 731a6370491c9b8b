"""The number of files, sockets among them, that this process may have open."""

import resource


def open_files_limit(most: int) -> int:
    """The number of files that this process may have open at present; `most` where it may have more."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else min(soft, most)


def allow_open_files(wanted: int) -> int:
    """Have this process open `wanted` files, or as many as the system lets it; returns how many it may open now."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = open_files_limit(wanted)
    if allowed < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
