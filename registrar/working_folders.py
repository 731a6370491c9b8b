"""Where a registrar keeps the files of registrations while they are done: a folder a process, and one in it for each.

A registrar that is killed leaves its folder, which the next one that starts in the same home removes: a lock tells
whether somebody still uses it, and the kernel lets go of that with the process.
"""

import fcntl
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

_LOCK: Final = "lock"


@contextmanager
def working_folder(home: Path) -> Generator[Path]:
    """A folder for this process, while the context is open; blocks."""
    root = home / "registrations"
    folder = root / uuid4().hex
    with _alone(root):
        folder.mkdir()
        handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
        fcntl.flock(handle, fcntl.LOCK_EX)
        _remove_abandoned(root, folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextmanager
def _alone(root: Path) -> Generator[None]:
    """Have no other process begin a folder, or remove what it takes for abandoned: one that is not locked yet."""
    root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove_abandoned(root: Path, own: Path) -> None:
    for folder in root.iterdir():
        if folder != own and not _is_used(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_used(folder: Path) -> bool:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False  # who began it was killed just then, or has removed it
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
