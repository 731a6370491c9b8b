"""A secret in a file that is its owner's."""

from pathlib import Path

from process.secret_file import keep_secret


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "password"
    made = keep_secret(file)
    assert len(made) > 30
    assert keep_secret(file) == made
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_end_of_the_line_is_no_part_of_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush\n")
    assert keep_secret(file) == "hush"
