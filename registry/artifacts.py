"""Store of model files, addressed by the SHA-256 of their content.

The store is a directory, or a bucket with a directory as its cache.

Rules:
* A file is complete or absent: it is written under a temporary name, synced, and then renamed, which is atomic.
* A name never gets other content, so files are never changed and readers need no lock.
* Readers get the registered content: a process hashes a file before its first use, and again if it has changed.
* A file that a crash left incomplete is invisible; a later `put` deletes it.
* A cache stays within its limit by evicting the least recently used files, but never a file that a process holds
  (`artifact_cache`).
"""

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol
from uuid import uuid4

from registry.artifact_cache import ArtifactCache
from schemas.errors import OperatorError

_PARTIAL: Final = ".partial-"
_ABANDONED_S: Final = 24 * 3600
_CHUNK: Final = 1 << 20


class Bucket(Protocol):
    """Remote files, by name. All methods block, and raise `OperatorError` if the bucket cannot be reached."""

    @property
    def place(self) -> str:
        """Name of the bucket, for messages."""
        ...

    def has(self, name: str) -> bool:
        """Return true if the file exists."""
        ...

    def upload(self, name: str, file: Path) -> None:
        """Store a file, and replace any file of this name."""
        ...

    def download(self, name: str, target: Path) -> bool:
        """Write the file to `target`; return false if it does not exist."""
        ...

    def delete(self, name: str) -> None:
        """Delete the file; a missing file is no error."""
        ...

    def names_older(self, age_s: float) -> list[str]:
        """Return the names of files older than `age_s` seconds."""
        ...


class KeptArtifact(NamedTuple):
    """A file in the store."""

    sha256: str
    is_new: bool
    """True if it was not stored before."""


class ArtifactStore:
    """Artifacts in a directory, or in a bucket. All methods block: call them in a thread.

    The directory is created at the first `put`.
    """

    def __init__(self, directory: Path, bucket: Bucket | None = None, cache_bytes: int | None = None) -> None:
        """Open a store. A bucket holds the files itself; the directory then caches about `cache_bytes` of them."""
        self._directory = directory
        self._bucket = bucket
        self._cache = ArtifactCache(directory, cache_bytes)
        self._verified: dict[str, tuple[int, int, int]] = {}
        """Identity of each file whose content was found to match its name."""

    @property
    def is_writable(self) -> bool:
        """True if this process seems to have the right to write into the store."""
        folder = next(folder for folder in (self._directory, *self._directory.absolute().parents) if folder.exists())
        return os.access(folder, os.W_OK)

    def path(self, sha256: str) -> Path:
        """Return the path of an artifact, which need not exist."""
        return self._directory / sha256

    def has(self, sha256: str) -> bool:
        """Return true if the artifact is stored; a copy in the local cache does not count."""
        return self.path(sha256).is_file() if self._bucket is None else self._bucket.has(sha256)

    @contextmanager
    def held(self, sha256: str) -> Generator[Path]:
        """Hold an artifact in a local file and verify it; the file stays while the context is open.

        Raises:
            OperatorError: it is missing, is damaged, or cannot be fetched.
        """
        path = self.path(sha256)
        if self._bucket is None:
            self._verify(path)
            yield path
            return
        with self._cache.held(path, lambda: self._fetch(sha256)):
            try:
                self._verify(path)
            except OperatorError:
                path.unlink(missing_ok=True)  # the next call fetches it again
                raise
            yield path

    def put(self, file: Path) -> str:
        """Store a copy of `file` and return its SHA-256; raises as `keep` does."""
        return self.keep(file).sha256

    def keep(self, file: Path) -> KeptArtifact:
        """Store a copy of `file`, and report whether it is new.

        Raises:
            OperatorError: the disk is full, the directory cannot be written, or the bucket cannot be reached; nothing
                is left behind.
        """
        with self.receiving(file.name) as incoming, file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                incoming.write(chunk)
            return incoming.keep()

    @contextmanager
    def receiving(self, name: str) -> "Generator[IncomingArtifact]":
        """Yield a writer that takes an artifact in chunks; the data is deleted at the end unless its `keep` was called.

        Raises:
            OperatorError: as `keep` does; the message calls the artifact `name`.
        """
        with self._writing(name) as partial:
            self._remove_abandoned()
            with partial.open("xb") as content:
                yield IncomingArtifact(content, lambda sha256: self._keep(partial, sha256), (name, self._directory))

    def copy_to(self, name: str, target: Path) -> bool:
        """Copy a file to `target` that a user stored under a name of their own; return false if there is none.

        Raises:
            OperatorError: it cannot be read, or is a link. A link could lead to a file that this process may read and
                the user may not.
        """
        if self._bucket is not None:
            return self._bucket.download(name, target)
        source = self._directory.resolve() / name
        with _explained(name, self._directory):
            try:
                content = open(source, "rb", opener=_without_waiting)  # noqa: SIM115 - a path takes no opener
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return False
            with content:
                # Check the file that was opened, not the path beforehand: another file may take its place in between.
                if Path(f"/proc/self/fd/{content.fileno()}").readlink() != source:
                    raise OperatorError(f"{name} is a link to another place: put a file there")
                if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                    return False
                with target.open("xb") as copy:
                    shutil.copyfileobj(content, copy)
        return True

    def discard(self, sha256: str) -> None:
        """Delete an artifact that nothing refers to; a missing one is no error."""
        if self._bucket is not None:
            self._bucket.delete(sha256)
        self.path(sha256).unlink(missing_ok=True)

    def discard_older(self, age_s: float) -> None:
        """Delete files older than `age_s` seconds; for a store of temporary files."""
        if self._bucket is not None:
            for name in self._bucket.names_older(age_s):
                self.discard(name)
        elif self._directory.exists():
            _remove_older(self._directory.iterdir(), age_s)

    def _fetch(self, sha256: str) -> None:
        """Copy an artifact from the bucket into the cache."""
        assert self._bucket is not None
        with self._writing(sha256) as partial:
            if not self._bucket.download(sha256, partial):
                raise OperatorError(f"{sha256[:12]}... is not in {self._bucket.place}: register its model again")
            if sha256_of(partial) != sha256:
                raise OperatorError(
                    f"{self._bucket.place} holds other content under {sha256}: register its model again"
                )
            self._publish(partial, sha256)
            self._verified[sha256] = _identity(partial.stat())  # a file that another process wrote first is hashed
        self._cache.shrink(keep=sha256)

    def _keep(self, partial: Path, sha256: str) -> KeptArtifact:
        kept = KeptArtifact(sha256, is_new=not self.has(sha256))
        if self._bucket is not None:
            self._bucket.upload(sha256, partial)
        self._publish(partial, sha256)
        self._cache.shrink()
        return kept

    def _publish(self, partial: Path, sha256: str) -> None:
        if self._bucket is None:
            partial.replace(self.path(sha256))
        else:
            with suppress(FileExistsError):
                os.link(partial, self.path(sha256))  # unlike a rename, keeps the file that others may hold
        _sync_directory(self._directory)

    @contextmanager
    def _writing(self, name: str) -> Generator[Path]:
        """Yield a path to write a file to; delete the file there at the end."""
        partial = self._directory / f"{_PARTIAL}{uuid4().hex}"
        try:
            with _explained(name, self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
                yield partial
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _verify(self, path: Path) -> None:
        """Hash the file, unless it is unchanged since this process last hashed it."""
        try:
            found = path.stat()
        except OSError as error:
            raise OperatorError(f"artifact {path.name[:12]}... is not in {path.parent}: {error.strerror}") from error
        identity = _identity(found)
        if self._verified.get(path.name) == identity:
            return
        if sha256_of(path) != path.name:
            raise OperatorError(f"{path} is damaged: its content was changed; register the model again")
        self._verified[path.name] = identity

    def _remove_abandoned(self) -> None:
        _remove_older(self._directory.glob(f"{_PARTIAL}*"), _ABANDONED_S)


class IncomingArtifact:
    """Artifact that arrives in chunks. Methods block."""

    def __init__(self, content: BinaryIO, keep: Callable[[str], KeptArtifact], place: tuple[str, Path]) -> None:
        """Keep the content by `keep`; `place` are its name and folder in errors."""
        self._content = content
        self._keep = keep
        self._place = place
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Append a chunk. Raises `OperatorError` if it cannot be written."""
        self._digest.update(chunk)
        with _explained(*self._place):
            self._content.write(chunk)

    @property
    def sha256(self) -> str:
        """SHA-256 of the data so far."""
        return self._digest.hexdigest()

    def keep(self) -> KeptArtifact:
        """Store the data so far as the complete artifact. Raises `OperatorError` if that fails."""
        with _explained(*self._place):
            self._content.flush()
            os.fsync(self._content.fileno())
            return self._keep(self.sha256)


@contextmanager
def _explained(name: str, directory: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise OperatorError(f"cannot store {name} in {directory}: {error.strerror or error}") from error


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a FIFO would block until somebody writes


def _remove_older(files: Iterable[Path], age_s: float) -> None:
    for file in files:
        with suppress(FileNotFoundError):  # another process was faster
            if file.is_file() and time.time() - file.stat().st_mtime > age_s:
                file.unlink()


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's content, in hex; blocks.

    Raises:
        OperatorError: the file cannot be read.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error.strerror or error}") from error


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
