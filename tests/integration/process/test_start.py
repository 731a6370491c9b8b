"""A service that is stopped while it starts: it has nothing to lose, and leaves in good order."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENDLESS_IMPORT = """
import signal
print("importing", flush=True)
while True:
    signal.pause()
"""


@contextmanager
def started(module: str, folder: Path, *words: str) -> Generator[subprocess.Popen[str]]:
    """A service that has got as far as its imports, and gets no further."""
    (folder / "uvloop.py").write_text(ENDLESS_IMPORT)
    command = [sys.executable, "-m", module, *words]
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "importing\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("module", ["autoscaler", "gateway", "selector", "workers"])
def test_sigterm_during_the_imports_ends_it_with_zero(module: str, tmp_path: Path) -> None:
    with started(module, tmp_path) as process:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_ctrl_c_during_the_imports_shows_no_traceback(tmp_path: Path) -> None:
    with started("workers", tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_a_check_that_was_cut_off_has_not_succeeded(tmp_path: Path) -> None:
    with started("gateway", tmp_path, "--check") as process:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
