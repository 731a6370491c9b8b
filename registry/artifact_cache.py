"""A directory of files from elsewhere, kept within a bound; several processes of a machine may share it.

Who uses a file holds a shared lock on it (`flock`), which the kernel lets go of with the process. Who needs room
deletes what was used longest ago and can be locked alone: hence nothing that is held. The time of the last use is the
file's access time, set by hand, since most file systems do not keep it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


class ArtifactCache:
    """Files of a directory, at most about `limit_bytes` of them; all, without a limit. Methods block."""

    def __init__(self, directory: Path, limit_bytes: int | None) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes

    @contextmanager
    def held(self, path: Path, fetch: Callable[[], None]) -> Generator[None]:
        """Keep a file while the context is open, fetched first if it is not here."""
        handle = _lock(path)
        while handle is None:
            fetch()
            handle = _lock(path)
        try:
            yield
        finally:
            os.close(handle)

    def shrink(self, keep: str = "") -> None:
        """Delete what was used longest ago until the rest is within the bound, or is held, or is `keep`."""
        if self._limit_bytes is None:
            return
        files = [(found.stat(), found) for found in self._files()]
        total = sum(stat.st_size for stat, _path in files)
        for stat, path in sorted(files, key=lambda entry: entry[0].st_atime_ns):
            if total <= self._limit_bytes:
                return
            if path.name != keep and _delete_unless_held(path):
                total -= stat.st_size

    def _files(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if path.is_file() and not path.name.startswith(".")]


def _lock(path: Path) -> int | None:
    """Lock a file against deletion, and note that it is used; None if it is not there any more."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    found = os.fstat(handle)
    if found.st_nlink == 0:  # deleted between the two
        os.close(handle)
        return None
    with suppress(OSError):  # another user's: then it is only given up earlier
        os.utime(path, ns=(time.time_ns(), found.st_mtime_ns))
    return handle


def _delete_unless_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
