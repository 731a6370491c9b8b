"""Working folders of registrars: one folder for each process, with one subfolder for each registration.

A killed registrar leaves its folder behind; the next registrar that starts in the same home deletes it. A lock file
tells whether a folder is in use: the kernel releases the lock when its process ends.
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
    """Yield a new folder for this process and delete it afterwards; blocks."""
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
    """Hold the lock on `root`, so that no other process creates a folder or deletes one that is not locked yet."""
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
        return False  # its process was killed before it created the lock, or has deleted the folder
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
