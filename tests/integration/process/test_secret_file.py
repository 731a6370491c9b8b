"""Tests of secret files in a process with another locale."""

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import pathlib, sys
from process.secret_file import write_secret

write_secret(pathlib.Path(sys.argv[1]), chr(0xFC))
"""


def test_write_secret_uses_utf8_in_any_locale(tmp_path: Path) -> None:
    file = tmp_path / "state"
    command = [sys.executable, "-X", "utf8=0", "-c", _PROGRAM, str(file)]
    subprocess.run(command, env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, check=True)
    assert file.read_bytes() == b"\xc3\xbc"
