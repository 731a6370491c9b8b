"""Directory of fetched files within a size limit; several processes of a machine may share it.

A process holds a shared lock (`flock`) on each file that it uses; the kernel releases the lock when the process ends.
To free space, a process deletes the least recently used files on which it gets an exclusive lock, so a held file is
never deleted. The time of the last use is the access time of the file, set explicitly, because most file systems do not
maintain it.
"""

import fcntl
import os
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path


class ArtifactCache:
    """Files in a directory, limited to about `limit_bytes`; None: no limit. Methods block."""

    def __init__(self, directory: Path, limit_bytes: int | None) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes

    @contextmanager
    def held(self, path: Path, fetch: Callable[[], None]) -> Generator[None]:
        """Hold a file while the context is open; fetch it first if it is missing."""
        handle = _lock(path)
        while handle is None:
            fetch()
            handle = _lock(path)
        try:
            yield
        finally:
            os.close(handle)

    def shrink(self, keep: str = "") -> None:
        """Delete the least recently used files until the rest is within the limit; held files and `keep` stay."""
        if self._limit_bytes is None:
            return
        files = self._files()
        total = sum(stat.st_size for stat, _path in files)
        for stat, path in sorted(files, key=lambda entry: entry[0].st_atime_ns):
            if total <= self._limit_bytes:
                return
            if path.name != keep and _delete_unless_held(path):
                total -= stat.st_size

    def _files(self) -> list[tuple[os.stat_result, Path]]:
        found: list[tuple[os.stat_result, Path]] = []
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another process evicted it
                if not path.name.startswith(".") and path.is_file():
                    found.append((path.stat(), path))
        return found


def _lock(path: Path) -> int | None:
    """Lock a file against deletion and set its access time; return None if it does not exist any more."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if not _is_at(handle, path):  # deleted before it was locked, and perhaps fetched again
        os.close(handle)
        return None
    with suppress(OSError):  # owned by another user: it is only evicted earlier
        os.utime(path, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Return true if an open file is still the file at its path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _delete_unless_held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(handle, path):  # else it was deleted, and another process may hold the new file
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
