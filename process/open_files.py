"""The number of files, sockets among them, that this process may have open."""

import resource


def allow_open_files(wanted: int) -> int:
    """Have this process open `wanted` files, or as many as the system lets it; returns how many it may open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return wanted
    allowed = wanted if hard == unlimited else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed
