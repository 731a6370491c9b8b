"""Tests of the artifact store: an artifact is complete or absent."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from registry.artifacts import ArtifactStore, sha256_of
from schemas.errors import OperatorError
from tests.full_disk import limited_files


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "model"
    path.write_bytes(content)
    return path


def test_artifact_store_addresses_files_by_hash(store: ArtifactStore, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    sha256 = store.put(_file(tmp_path, content))
    assert sha256 == hashlib.sha256(content).hexdigest() == sha256_of(tmp_path / "model")
    assert store.has(sha256)
    assert store.path(sha256).read_bytes() == content


def test_artifact_store_deduplicates_content(store: ArtifactStore, tmp_path: Path) -> None:
    first = store.put(_file(tmp_path, b"same"))
    assert store.put(_file(tmp_path, b"same")) == first
    assert len(list((tmp_path / "artifacts").iterdir())) == 1


def test_artifact_store_leaves_nothing_after_full_disk(store: ArtifactStore, tmp_path: Path) -> None:
    file = _file(tmp_path, b"x" * (1 << 20))
    with limited_files(64 * 1024), pytest.raises(OperatorError, match="cannot store model in"):
        store.put(file)
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_artifact_store_reports_missing_file(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="No such file"):
        store.put(tmp_path / "none")
    with pytest.raises(OperatorError, match="cannot read"):
        sha256_of(tmp_path / "none")


def test_artifact_store_removes_only_old_partial_files(store: ArtifactStore, tmp_path: Path) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    old, young = folder / ".partial-old", folder / ".partial-young"
    for partial in (old, young):
        partial.write_bytes(b"half")
    long_ago = time.time() - 48 * 3600
    os.utime(old, (long_ago, long_ago))
    store.put(_file(tmp_path, b"whole"))
    assert not old.exists()
    assert young.exists()


def test_artifact_store_refuses_damaged_file(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(_file(tmp_path, b"right"))
    with store.held(sha256) as path:
        assert path.read_bytes() == b"right"
    path.write_bytes(b"wrong")
    with pytest.raises(OperatorError, match="damaged"), store.held(sha256):
        pass
    store.put(_file(tmp_path, b"right"))
    with store.held(sha256) as path:
        assert path.read_bytes() == b"right"


def test_artifact_store_names_folder_of_missing_artifact(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=f"is not in {tmp_path}/artifacts"), store.held("0" * 64):
        pass


def test_copy_to_copies_plain_files_and_refuses_links(store: ArtifactStore, tmp_path: Path) -> None:
    sha256 = store.put(_file(tmp_path, b"what somebody else registered"))
    folder = tmp_path / "artifacts" / "incoming" / "acme"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"mine")
    (folder / "link").symlink_to(tmp_path / "artifacts" / sha256)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "up").symlink_to(tmp_path / "artifacts")
    assert store.copy_to("incoming/acme/model.onnx", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"mine"
    os.mkfifo(folder / "pipe")
    assert not any(store.copy_to(f"incoming/{name}", tmp_path / "none") for name in ("acme", "acme/none", "acme/pipe"))
    for name in ("link", "loop", f"up/{sha256}"):
        with pytest.raises(OperatorError, match="link"):
            store.copy_to(f"incoming/acme/{name}", tmp_path / "stolen")


def test_copy_to_is_safe_against_link_race(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A symbolic link takes the place of the file while it is opened, and the file returns at once."""
    sha256 = store.put(_file(tmp_path, b"what somebody else registered"))
    folder = tmp_path / "artifacts" / "incoming" / "acme"
    folder.mkdir(parents=True)
    file, other, open_file = folder / "model.onnx", folder / "next", os.open
    file.write_bytes(b"mine")
    opened: list[bytes] = []

    def open_link(path: str, flags: int, *mode: int) -> int:
        if Path(path).name != file.name:
            return open_file(path, flags, *mode)
        other.symlink_to(tmp_path / "artifacts" / sha256)
        other.replace(file)
        opened.append(file.read_bytes())
        descriptor = open_file(path, flags, *mode)
        other.write_bytes(b"mine")
        other.replace(file)
        return descriptor

    monkeypatch.setattr(os, "open", open_link)
    with pytest.raises(OperatorError, match="link"):
        store.copy_to("incoming/acme/model.onnx", tmp_path / "copy")
    assert opened == [b"what somebody else registered"]
    assert not (tmp_path / "copy").exists()


def test_incoming_artifact_explains_a_failed_write(store: ArtifactStore) -> None:
    unable = pytest.raises(OperatorError, match="cannot store the model in ")
    with store.receiving("the model") as incoming, limited_files(64 * 1024), unable:
        incoming.write(bytes(1 << 20))
