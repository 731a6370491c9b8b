"""Processes whose clocks are wrong: the environment in which libfaketime shifts their time."""

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).parent / "cnd_timedwait.c"


def shifted_clock() -> dict[str, str] | None:
    """Return the environment variables of a process with a shifted clock; None without libfaketime or a C compiler.

    The shift itself is added by the caller, as `FAKETIME` or `FAKETIME_TIMESTAMP_FILE`. The monotonic clock stays.
    """
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1")]
    if not (libraries and shutil.which("c++")):
        return None
    return {"LD_PRELOAD": f"{_shifted_waits()} {libraries[0]}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@cache
def _shifted_waits() -> Path:
    library = Path(_folder().name) / "cnd_timedwait.so"
    subprocess.run(["c++", "-x", "c", "-shared", "-fPIC", "-o", library, _SOURCE], check=True, timeout=60)
    return library


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder that ends with this process."""
    return tempfile.TemporaryDirectory(prefix="infaas-clock-")
