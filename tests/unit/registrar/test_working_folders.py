"""Folders of registrars: each its own, and none is left of who was killed."""

from pathlib import Path

from registrar.working_folders import working_folder


def test_what_somebody_uses_stays_and_what_was_left_goes(tmp_path: Path) -> None:
    root = tmp_path / "registrations"
    with working_folder(tmp_path) as one:
        (root / "killed" / "at-work").mkdir(parents=True)
        (root / "killed" / "lock").touch()
        (root / "killed-at-once").mkdir()
        with working_folder(tmp_path) as other:
            assert {*root.iterdir()} == {one, other}
        assert {*root.iterdir()} == {one}
    assert not [*root.iterdir()]
