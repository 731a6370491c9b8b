"""Installs the packages of a lock into the environment of this Python, on all cores: `install_locked.py LOCK`.

One pip unpacks one wheel at a time, and compiles its modules one at a time. A lock names all packages with their
hashes, so no pip needs to know what another installs: each core gets a part of the lock, and all compile afterwards.
"""

import compileall
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

_MOST: Final = 4
"""Most pips at once: more wait for the disk and the index."""
_PIP: Final = (
    *("-m", "pip", "--disable-pip-version-check", "install"),
    *("--quiet", "--require-hashes", "--no-deps", "--no-compile"),
)


def main(lock: Path) -> int:
    """Install the packages; return the exit code of the first pip that failed, or 0."""
    entries = entries_of(lock.read_text())
    count = min(os.cpu_count() or 1, _MOST)
    with TemporaryDirectory(prefix="infaas-install-") as folder:
        parts = [Path(folder, f"{number}.txt") for number in range(count)]
        for number, part in enumerate(parts):
            part.write_text("".join(entries[number::count]))
        pips = [subprocess.Popen((sys.executable, *_PIP, "--requirement", str(part))) for part in parts]
        codes = [pip.wait() for pip in pips]
    compileall.compile_dir(sysconfig.get_path("purelib"), quiet=2, workers=0)
    return next(filter(None, codes), 0)


def entries_of(lock: str) -> list[str]:
    """Return the requirements of a lock, each with the lines of its hashes."""
    found: list[str] = []
    for line in lock.splitlines(keepends=True):
        if line[:1].isspace() and found:
            found[-1] += line
        elif line.strip() and not line.startswith("#"):
            found.append(line)
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
