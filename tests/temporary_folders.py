"""Temporary folders of a run of its own: one that passed leaves nothing, one that failed leaves them to be looked at.

pytest's default is a folder for all runs of a user, and each run that begins takes every right on it from others. Under
root Postgres runs as somebody else, and loses its files when another run begins.
"""

import os
import shutil
import tempfile
from typing import Final

import pytest

_VARIABLE: Final = "PYTEST_DEBUG_TEMPROOT"
_made = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Have this run make its folders in one that no other has, unless it is told where."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = config.stash[_made] = tempfile.mkdtemp(prefix="infaas-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove them after a run that passed."""
    folder = session.config.stash.get(_made, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)
