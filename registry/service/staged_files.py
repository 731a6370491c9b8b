"""Stages the files that a registration names: uploads of its tenant, and files in the artifact store.

Each file is staged under its given name, because readers recognise formats by it. An upload is hard-linked, or copied
where the file system does not allow links. A file that is named twice, under two names, is fetched once.

An uploaded folder is an uncompressed tar of plain files and folders. Compressed tars are refused, so that the content
is never larger than the upload. Links, devices, sparse files and paths outside the folder are refused as well: the
headers of a tar are checked, never trusted. Bytes that are not a tar can make `tarfile` raise many kinds of errors,
and some make it compute for minutes: the CPU limit of the process ends those.
"""

import os
import shutil
import tarfile
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

from registry.artifact_settings import name_in_store
from registry.artifacts import ArtifactStore
from registry.labelled_files import names_files
from schemas.errors import InvalidRequest
from schemas.registrations import FileRef
from schemas.rows.catalog import Processing

MOST_FILES: Final = 100_000
_LONGEST: Final = 1000
_DEEPEST: Final = 20
_UNREADABLE: Final = (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError, EOFError)
"""Exceptions that `tarfile` raises for content that is not a tar."""


class StagedFiles:
    """Staged files of one registration, in one folder. All methods block."""

    def __init__(
        self, folder: Path, uploads: ArtifactStore, artifacts: ArtifactStore, location: tuple[str, Path],
        uploaded: Collection[str], publisher: str | None,
    ) -> None:  # fmt: skip
        """Prepare to stage files.

        `location` is the artifact store: its URL or folder, and the home folder. `uploaded` holds the SHA-256 of every
        upload that the registration may use.
        """
        self._folder = folder
        self._uploads = uploads
        self._artifacts = artifacts
        self._location = location
        self._uploaded = frozenset(uploaded)
        self._publisher = publisher
        self._placed: dict[str, Path] = {}
        """Path of each staged file, by the upload or URL it came from."""

    def place(self, given: FileRef | None, folder: str) -> Path | None:
        """Stage a file in the subfolder `folder`, next to the files staged there before; return None if none is given.

        A tar of a folder is unpacked.

        Raises:
            InvalidRequest: the file is missing or not of the declared kind, or two files have one name.
            OperatorError: the file cannot be read or copied.
        """
        if given is None:
            return None
        target = self._folder / folder / given.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise InvalidRequest(f"two files are called {given.name}")
        if not given.folder:
            source = given.upload or given.url
            if source in self._placed:
                _link(self._placed[source], target)
            else:
                self._fetch(given, target)
            self._placed[source] = target
            return target
        tar = self._folder / f"{given.name}.tar"
        self._fetch(given, tar)
        unpack(tar, target)
        tar.unlink()
        return target

    def data(self, given: FileRef | None, folder: str) -> Path | None:
        """Stage a file or a folder of inputs.

        Raises:
            InvalidRequest: it is a table that refers to other files; other reasons as for `place`.
            OperatorError: as `place` does.
        """
        file = self.place(given, folder)
        if file is not None and file.is_file() and names_files(file):
            raise InvalidRequest(f"{file.name} refers to other files, which were not uploaded: give a folder per class")
        return file

    def processing(self, declared: Processing | None) -> Processing | None:
        """Return the processing steps with paths in place of SHA-256 values."""

        def placed(sha256: str) -> str:
            file = self._folder / "processing" / sha256
            file.parent.mkdir(exist_ok=True)
            if not file.exists():
                self._link(sha256, file)
            return str(file)

        return declared and declared.with_files(placed)

    def _fetch(self, given: FileRef, target: Path) -> None:
        given.check()
        if given.upload:
            self._link(given.upload, target)
            return
        name = name_in_store(given.url, *self._location, self._publisher)
        if not self._artifacts.copy_to(name, target):
            raise InvalidRequest(f"there is no file at {given.url[:200]}")

    def _link(self, sha256: str, target: Path) -> None:
        if sha256 not in self._uploaded:
            raise InvalidRequest(f"{sha256[:80]} is not an upload of this registration")
        if not self._uploads.has(sha256):
            raise InvalidRequest(f"the upload {sha256} was deleted: send the file again")
        with self._uploads.held(sha256) as file:
            _link(file, target)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)


def strip_working_folder(text: str, folder: Path) -> str:
    """Return `text` without paths of the working folder, so that the tenant sees the names they gave."""
    for part in ("model", "validation", "calibration", "processing"):
        text = text.replace(f"{folder / part}/", "")
    return text.replace(f"{folder}/", "")


def unpack(tar: Path, target: Path) -> None:
    """Unpack a tar into the new folder `target`; blocks.

    Raises:
        InvalidRequest: the file is not an uncompressed tar, or it holds a member that is not allowed.
    """
    target.mkdir()
    left, folders = tar.stat().st_size, set[PurePosixPath]()
    try:
        with tarfile.open(tar, "r:") as archive:
            for number, member in enumerate(archive):
                path = _checked(tar, member)
                folders.update(path.parents)  # each parent is created, even if it is no member of its own
                if number + len(folders) > MOST_FILES:
                    raise InvalidRequest(f"{tar.name} holds more than {MOST_FILES} files and folders")
                left -= member.size
                if left < 0 or member.size < 0:
                    raise InvalidRequest(f"{tar.name} declares more content than it has")
                _write(archive, member, target / path)
    except _UNREADABLE as error:
        raise InvalidRequest(f"{tar.name} is not an uncompressed tar, or damaged: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise InvalidRequest(f"{tar.name} holds the same name twice: {Path(error.filename).name[:80]}") from error


def _checked(tar: Path, member: tarfile.TarInfo) -> PurePosixPath:
    member.name.encode()  # raises for bytes that are no text, which later code could not show
    path = PurePosixPath(member.name)
    strange = path.is_absolute() or ".." in path.parts or "\0" in member.name or "\\" in member.name
    if strange or len(member.name) > _LONGEST or len(path.parts) > _DEEPEST:
        raise InvalidRequest(f"{tar.name} holds a path that leaves the folder, or is too deep: {member.name[:80]!r}")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise InvalidRequest(f"{tar.name}: {member.name[:80]!r} is neither a file nor a folder, e.g. a link")
    return path


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None, "a plain file has content"
    with content, path.open("xb") as file:
        shutil.copyfileobj(content, file)
