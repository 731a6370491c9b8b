"""Tests of staged files: names, uploads and unpacked folders."""

import errno
import io
import os
import tarfile
from pathlib import Path

import pytest

from infaas.cli.uploads import pack
from registry.artifacts import ArtifactStore
from registry.service.staged_files import StagedFiles, unpack
from schemas.errors import InvalidRequest
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


def tar_of(path: Path, *members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            member.size = len(content) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(content))
    return path


def test_unpack_restores_packed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "1.png").write_bytes(b"cat")
    (folder / "link").symlink_to(folder / "cat" / "1.png")
    pack(folder, tmp_path / "one.tar")
    pack(folder, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    unpack(tmp_path / "one.tar", tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    assert found == {"cat", "cat/1.png", "link"}
    assert not (tmp_path / "out" / "link").is_symlink()


@pytest.mark.parametrize("name", ["../out", "/etc/cron.d/x", "a/../../x", "a\\..\\x", "a/" * 30 + "x"])
def test_unpack_refuses_path_outside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="leaves the folder"):
        unpack(tar_of(tmp_path / "x.tar", (name, b"!")), tmp_path / "out")
    assert not [*(tmp_path / "out").iterdir()]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_unpack_refuses_links_and_devices(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(InvalidRequest, match="neither a file nor a folder"):
        unpack(tar_of(tmp_path / "x.tar", ("x", b""), kind=kind), tmp_path / "out")


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_unpack_refuses_compressed_tar(tmp_path: Path, mode: str) -> None:
    with pytest.raises(InvalidRequest, match="not an uncompressed tar"):
        unpack(tar_of(tmp_path / "x.tar", ("x", bytes(1 << 20)), mode=mode), tmp_path / "out")


def raw_member(name: bytes, kind: bytes = tarfile.REGTYPE, content: bytes = b"", size: bytes = b"") -> bytes:
    """Return the bytes of a tar member with any header fields."""
    head = bytearray(tarfile.TarInfo("x").tobuf(tarfile.USTAR_FORMAT))
    head[0:100] = name.ljust(100, b"\0")
    head[124:136] = size or b"%011o\0" % len(content)
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


@pytest.mark.parametrize(
    "content",
    [
        raw_member(b"pax", tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n") + raw_member(b"x"),
        raw_member(b"long", tarfile.GNUTYPE_LONGNAME, b"x\0") * 3000 + raw_member(b"x"),
        raw_member(b"\xff\xfe", content=b"!"),
        raw_member(b"x", size=b"\xff" * 10 + b"\xfe\x00"),
    ],
    ids=["no-holes-said", "as-deep-as-python", "no-text", "less-than-nothing"],
)
def test_unpack_refuses_malformed_members(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(content + bytes(1024))
    with pytest.raises(InvalidRequest):
        unpack(tmp_path / "x.tar", tmp_path / "out")


def test_unpack_refuses_conflicting_names(tmp_path: Path) -> None:
    for number, second in enumerate(("x", "x/y")):
        with pytest.raises(InvalidRequest, match="the same name twice"):
            unpack(tar_of(tmp_path / "x.tar", ("x", b"1"), (second, b"2")), tmp_path / f"out{number}")


def test_unpack_counts_implicit_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.service.staged_files.MOST_FILES", 4)
    for number, names in enumerate((("a/b/c/x",), ("a/x", "b/x"))):
        unpack(tar_of(tmp_path / "x.tar", *((name, b"!") for name in names)), tmp_path / f"out{number}")
    with pytest.raises(InvalidRequest, match="more than 4 files"):
        unpack(tar_of(tmp_path / "x.tar", ("a/b/c/d/x", b"!")), tmp_path / "deep")
