"""Model files, addressed by the SHA-256 of their content, in one directory.

Rules:
* A file is complete or not there: it is written under another name, synced, and then renamed, which is atomic.
* A name never stands for other content, so files are never changed and readers need no lock.
* What a crash left half-written is invisible, and is removed by a later `put`.
"""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final
from uuid import uuid4

from schemas.errors import OperatorError

_PARTIAL: Final = ".partial-"
_ABANDONED_S: Final = 24 * 3600
_CHUNK: Final = 1 << 20


class ArtifactStore:
    """Keeps files in a directory that is created at the first `put`. All methods block: call them in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, sha256: str) -> Path:
        """Path of an artifact, whether it is here or not."""
        return self._directory / sha256

    def has(self, sha256: str) -> bool:
        """Whether the artifact is here."""
        return self.path(sha256).is_file()

    def put(self, file: Path) -> str:
        """Keep a copy of `file`; returns its SHA-256.

        Raises:
            OperatorError: the disk is full or the directory cannot be written; nothing is left behind.
        """
        partial = self._directory / f"{_PARTIAL}{uuid4().hex}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            sha256 = _copy(file, partial)
            os.replace(partial, self.path(sha256))
            _sync_directory(self._directory)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise OperatorError(f"cannot store {file.name} in {self._directory}: {error.strerror or error}") from error
        return sha256

    def discard(self, sha256: str) -> None:
        """Remove an artifact that nothing refers to; none there is no error."""
        self.path(sha256).unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        for partial in self._directory.glob(f"{_PARTIAL}*"):
            try:
                if time.time() - partial.stat().st_mtime > _ABANDONED_S:
                    partial.unlink()
            except FileNotFoundError:
                continue  # another process was faster


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's content, in hex; blocks.

    Raises:
        OperatorError: the file cannot be read.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error


def _copy(file: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as source, target.open("xb") as copy:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
        copy.flush()
        os.fsync(copy.fileno())
    return digest.hexdigest()


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
