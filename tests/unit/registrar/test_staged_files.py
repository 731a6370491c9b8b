"""Tests of `StagedFiles`: a file that is given under several names is stored once."""

import errno
import os
from pathlib import Path

import pytest

from registrar.staged_files import StagedFiles
from registry.artifacts import ArtifactStore
from schemas.registrations import FileRef

OTHER_FILE_SYSTEM = OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def test_given_files_store_repeated_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand copies of a large file would fill the disk. The store is on another file system in this test."""
    stored, folder = tmp_path / "stored", tmp_path / "folder"
    uploads, artifacts = ArtifactStore(stored / "uploads"), ArtifactStore(stored)
    (tmp_path / "weights").write_bytes(b"large")
    sha256 = uploads.put(tmp_path / "weights")
    (stored / "incoming").mkdir()
    (stored / "incoming" / "weights").write_bytes(b"large, too")
    link = os.link

    def link_within(source: Path, target: Path) -> None:
        if source.is_relative_to(stored):
            raise OTHER_FILE_SYSTEM
        link(source, target)

    monkeypatch.setattr("os.link", link_within)
    files = StagedFiles(folder, uploads, artifacts, (str(stored), tmp_path), [sha256], None)
    url = (stored / "incoming" / "weights").as_uri()
    for upload, where in ((sha256, ""), ("", url)):
        placed = [
            files.place(FileRef(name=f"{len(upload)}-{number}", upload=upload, url=where), "model")
            for number in range(3)
        ]
        assert len({path.stat().st_ino for path in placed if path is not None}) == 1
    assert {path.read_bytes() for path in (folder / "model").iterdir()} == {b"large", b"large, too"}
