"""Pytest plugin that gives each run a folder of its own for all temporary files; only a failed run keeps it.

The folder lies in memory where there is enough. Tests create and delete thousands of small files, and ext4 without a
journal searches long for an inode that was not deleted recently: a copy of a database takes 300 ms of CPU there, and 30
ms in memory. A folder that a failed or killed run left in memory lasts until the next run, which knows it by the id of
a process that has ended: containers that share this memory must not run tests at once.

Runs share no folder, because a pytest that starts removes the access of other users to the folder of all runs. Under
root Postgres runs as another user, so it would lose its files.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

import psutil
import pytest

from process.memory import free_memory

_VARIABLE: Final = "TMPDIR"
_MEMORY: Final = Path("/dev/shm")
_NEEDED_BYTES: Final = 4 << 30
_made = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Create a folder for this run; the processes of pytest-xdist have that of the process that starts them."""
    if not hasattr(config, "workerinput"):
        _remove_left_folders()
        os.environ[_VARIABLE] = tempfile.tempdir = config.stash[_made] = _new_folder()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder of a run that passed."""
    folder = session.config.stash.get(_made, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder() -> str:
    if _VARIABLE in os.environ or not _has_memory():
        return tempfile.mkdtemp(prefix="infaas-")
    folder = _MEMORY / f"infaas-{os.getpid()}"  # short, because paths of Ray's sockets in it are limited to 107 bytes
    folder.mkdir(0o700)
    return str(folder)


def _has_memory() -> bool:
    if not _MEMORY.is_dir() or os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        return False
    return min(shutil.disk_usage(_MEMORY).free, free_memory()) >= _NEEDED_BYTES


def _remove_left_folders() -> None:
    for folder in _MEMORY.glob("infaas-*"):
        pid = folder.name.removeprefix("infaas-")
        if pid.isdecimal() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            shutil.rmtree(folder, ignore_errors=True)
