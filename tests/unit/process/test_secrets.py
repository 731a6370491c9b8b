"""Tests of `keep_secret`: a secret in a file that only its owner may read."""

import secrets
from pathlib import Path

import pytest

from process.secrets import keep_secret


def test_keep_secret_creates_private_file_once(tmp_path: Path) -> None:
    file = tmp_path / "password"
    made = keep_secret(file)
    assert len(made) > 30
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


def test_keep_secret_strips_end_of_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    assert keep_secret(file) == "hush"
