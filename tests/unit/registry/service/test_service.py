"""Tests of `working_folder`: each registrar has its own, and folders of killed registrars are removed."""

from pathlib import Path

from registry.service.service import working_folder


def test_working_folder_removes_only_abandoned_folders(tmp_path: Path) -> None:
    root = tmp_path / "registrations"
    with working_folder(tmp_path) as one:
        (root / "killed" / "at-work").mkdir(parents=True)
        (root / "killed" / "lock").touch()
        (root / "killed-at-once").mkdir()
        with working_folder(tmp_path) as other:
            assert {*root.iterdir()} == {one, other}
        assert {*root.iterdir()} == {one}
    assert not [*root.iterdir()]
