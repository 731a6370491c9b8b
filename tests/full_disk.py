"""A full disk, for tests: a limit of the size of files, at which writes fail alike."""

import resource
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def limited_files(size: int) -> Generator[None]:
    """Make the kernel refuse writes beyond `size` bytes of a file.

    The limit is that of the whole process, whose output may be a file too: only the write under test belongs inside.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
