"""Tests of `keep_secret`: a secret in a file that only its owner may read."""

from pathlib import Path

from process.secret_file import keep_secret


def test_keep_secret_creates_private_file_once(tmp_path: Path) -> None:
    file = tmp_path / "password"
    made = keep_secret(file)
    assert len(made) > 30
    assert keep_secret(file) == made
    assert file.stat().st_mode & 0o777 == 0o600


def test_keep_secret_strips_end_of_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    assert keep_secret(file) == "hush"
