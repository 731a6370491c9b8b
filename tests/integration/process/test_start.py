"""Tests of services that are stopped while they start."""

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
    """Start a service that blocks during its imports."""
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
def test_sigterm_during_imports_exits_with_zero(module: str, tmp_path: Path) -> None:
    with started(module, tmp_path) as process:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_sigint_during_imports_shows_no_traceback(tmp_path: Path) -> None:
    with started("workers", tmp_path) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")


def test_check_interrupted_by_sigterm_fails(tmp_path: Path) -> None:
    with started("gateway", tmp_path, "--check") as process:
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
