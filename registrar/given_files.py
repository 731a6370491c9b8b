"""The files that a registration names, as files here: uploads of its tenant, and what lies in the store of artifacts.

An upload is linked, or where that cannot be copied, under the name that it was given: whoever reads it goes by that. A
file that is given again, under another name, takes no more room.
"""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from registrar.unpacking import unpack
from registry.artifact_settings import name_in_store
from registry.artifacts import ArtifactStore
from registry.labelled_files import names_files
from schemas.errors import InvalidRequest
from schemas.registrations import GivenFile
from schemas.rows.processing import Processing


class GivenFiles:
    """Files of one registration, in a folder. All methods block."""

    def __init__(
        self, folder: Path, uploads: ArtifactStore, artifacts: ArtifactStore, location: tuple[str, Path],
        uploaded: Collection[str], publisher: str | None,
    ) -> None:  # fmt: skip
        """`location` is what names the store of artifacts; of `uploaded` the registration's tenant has sent all."""
        self._folder = folder
        self._uploads = uploads
        self._artifacts = artifacts
        self._location = location
        self._uploaded = frozenset(uploaded)
        self._publisher = publisher
        self._placed: dict[str, Path] = {}
        """By what was given, where it lies."""

    def place(self, given: GivenFile | None, folder: str) -> Path | None:
        """Have a file, if one is given, in a folder of its own with those that are placed there, too.

        Raises:
            InvalidRequest: it is not what it should be.
            OperatorError: it is not there, or cannot be had.
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

    def data(self, given: GivenFile | None, folder: str) -> Path | None:
        """Have a file of inputs, or a folder of them; raises as `place` does."""
        file = self.place(given, folder)
        if file is not None and file.is_file() and names_files(file):
            raise InvalidRequest(f"{file.name} names files by their paths, which are not here: give a folder per class")
        return file

    def processing(self, declared: Processing | None) -> Processing | None:
        """Processing with its files as paths."""

        def placed(sha256: str) -> str:
            file = self._folder / "processing" / sha256
            file.parent.mkdir(exist_ok=True)
            if not file.exists():
                self._link(sha256, file)
            return str(file)

        return declared and declared.with_files(placed)

    def _fetch(self, given: GivenFile, target: Path) -> None:
        given.check()
        if given.upload:
            self._link(given.upload, target)
            return
        name = name_in_store(given.url, *self._location, self._publisher)
        if not self._artifacts.copy_to(name, target):
            raise InvalidRequest(f"there is nothing at {given.url[:200]}")

    def _link(self, sha256: str, target: Path) -> None:
        if sha256 not in self._uploaded:
            raise InvalidRequest(f"{sha256[:80]} is none of the registration's uploads")
        if not self._uploads.has(sha256):
            raise InvalidRequest(f"the upload {sha256} has gone: send the file again")
        with self._uploads.held(sha256) as file:
            _link(file, target)


def _link(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:  # another file system, or one that has no links
        shutil.copyfile(file, target)


def without_folder(text: str, folder: Path) -> str:
    """A text for who registers, in which files are called as they called them."""
    for part in ("model", "validation", "calibration", "processing"):
        text = text.replace(f"{folder / part}/", "")
    return text.replace(f"{folder}/", "")
