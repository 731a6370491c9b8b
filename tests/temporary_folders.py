"""Pytest plugin that gives each run a temporary folder of its own; only a failed run keeps it, for inspection.

By default all runs of a user share one folder, and each run that starts removes the access of other users to it. Under
root Postgres runs as another user, so it would lose its files when a second run starts.
"""

import os
import shutil
import tempfile
from typing import Final

import pytest

_VARIABLE: Final = "PYTEST_DEBUG_TEMPROOT"
_made = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Create a folder for this run, unless the variable already names one."""
    if _VARIABLE not in os.environ:
        os.environ[_VARIABLE] = config.stash[_made] = tempfile.mkdtemp(prefix="infaas-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remove the folder of a run that passed."""
    folder = session.config.stash.get(_made, None)
    if folder is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(folder, ignore_errors=True)
