"""Tests of secrets: files that only their owner may read, and variables that child processes do not inherit."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from process.secrets import keep_secret
from tests.processes import output_of

_PROGRAM = """
import pathlib, sys
from process.secrets import write_secret

write_secret(pathlib.Path(sys.argv[1]), chr(0xFC))
"""
PROGRAM = """
import os
import psutil
from pathlib import Path
from process.secrets import forget_secrets
assert "sesame" in Path("/proc/self/environ").read_text()
forget_secrets()
print("sesame" in Path("/proc/self/environ").read_text(), os.environ.get("INFAAS_POSTGRES"), os.environ["OTHER"])
print(os.popen("env").read().count("sesame"), psutil.Process().environ()["OTHER"])
"""


def test_keep_secret_creates_private_file_once(tmp_path: Path) -> None:
    file = tmp_path / "password"
    made = keep_secret(file)
    assert len(made) > 30
    file.write_text(f"{made}\n")  # as an editor leaves it
    assert keep_secret(file) == made
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_keep_secret_returns_the_secret_of_the_first_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"

    def other_process_first(_bytes: int) -> str:
        file.write_text("theirs")
        return "ours"

    monkeypatch.setattr(secrets, "token_urlsafe", other_process_first)
    assert keep_secret(file) == "theirs"
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_write_secret_uses_utf8_in_any_locale(tmp_path: Path) -> None:
    file = tmp_path / "state"
    command = [sys.executable, "-X", "utf8=0", "-c", _PROGRAM, str(file)]
    subprocess.run(command, env={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, check=True)
    assert file.read_bytes() == b"\xc3\xbc"


async def test_forget_secrets_removes_them_from_the_environment() -> None:
    dsn = "postgresql://u:sesame@h/d"  # pragma: allowlist secret
    env = {"INFAAS_POSTGRES": dsn, "AWS_SECRET_ACCESS_KEY": "sesame", "OTHER": "kept"}  # pragma: allowlist secret
    assert await output_of("-c", PROGRAM, env=env) == (0, "False None kept\n0 kept\n")
