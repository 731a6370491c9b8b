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
            with suppress(FileNotFoundError):  # another process gave it up
                if not path.name.startswith(".") and path.is_file():
                    found.append((path.stat(), path))
        return found


def _lock(path: Path) -> int | None:
    """Lock a file against deletion, and note that it is used; None if it is not there any more."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if not _is_at(handle, path):  # deleted between the two, and maybe fetched anew
        os.close(handle)
        return None
    with suppress(OSError):  # another user's: then it is only given up earlier
        os.utime(path, ns=(time.time_ns(), os.fstat(handle).st_mtime_ns))
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is still the one at its path."""
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
        if _is_at(handle, path):  # else it is gone, and what is there now may be held by somebody
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
