"""Model files, addressed by the SHA-256 of their content: in a directory, or in a bucket with a directory as its cache.

Rules:
* A file is complete or not there: it is written under another name, synced, and then renamed, which is atomic.
* A name never stands for other content, so files are never changed and readers need no lock.
* What is read is what was registered: a file is hashed before its first use by a process, and again when it changed.
* What a crash left half-written is invisible, and is removed by a later `put`.
* A cache keeps within its bound by giving up what was used longest ago, and never what a process holds
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
    """Files by name on other machines. All methods block, and raise `OperatorError` where it cannot be reached."""

    @property
    def place(self) -> str:
        """What it is called, for messages."""
        ...

    def has(self, name: str) -> bool:
        """Whether the file is there."""
        ...

    def upload(self, name: str, file: Path) -> None:
        """Keep a file, in place of what is there under its name."""
        ...

    def download(self, name: str, target: Path) -> bool:
        """Write the file to `target`; False if it is not there."""
        ...

    def delete(self, name: str) -> None:
        """Remove the file; none there is no error."""
        ...

    def names_older(self, age_s: float) -> list[str]:
        """Names of the files that were written so long ago."""
        ...


class KeptArtifact(NamedTuple):
    """A file that was put among the artifacts."""

    sha256: str
    is_new: bool
    """Whether it was not there before."""


class ArtifactStore:
    """Keeps files in a directory that is created at the first `put`. All methods block: call them in a thread."""

    def __init__(self, directory: Path, bucket: Bucket | None = None, cache_bytes: int | None = None) -> None:
        """With a bucket, that is where the files are, and the directory keeps those used last, about `cache_bytes`."""
        self._directory = directory
        self._bucket = bucket
        self._cache = ArtifactCache(directory, cache_bytes)
        self._verified: dict[str, tuple[int, int, int]] = {}
        """Identity of each file that was found to be what its name says."""

    @property
    def is_writable(self) -> bool:
        """Whether this process may put something here, as far as it can be told beforehand."""
        folder = next(folder for folder in (self._directory, *self._directory.absolute().parents) if folder.exists())
        return os.access(folder, os.W_OK)

    def path(self, sha256: str) -> Path:
        """Path of an artifact, whether it is here or not."""
        return self._directory / sha256

    def has(self, sha256: str) -> bool:
        """Whether the artifact is kept, for all; a copy in this machine's cache does not count."""
        return self.path(sha256).is_file() if self._bucket is None else self._bucket.has(sha256)

    @contextmanager
    def held(self, sha256: str) -> Generator[Path]:
        """Have the artifact in a file of this machine, verified; it stays there while the context is open.

        Raises:
            OperatorError: it is nowhere, is damaged, or cannot be fetched.
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
                path.unlink(missing_ok=True)  # the next one fetches it again
                raise
            yield path

    def put(self, file: Path) -> str:
        """Keep a copy of `file`; returns its SHA-256, and raises as `keep` does."""
        return self.keep(file).sha256

    def keep(self, file: Path) -> KeptArtifact:
        """Keep a copy of `file`, and tell whether that was there already.

        Raises:
            OperatorError: the disk is full, the directory cannot be written, or the bucket not be reached; nothing is
                left behind.
        """
        with self.receiving(file.name) as incoming, file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                incoming.write(chunk)
            return incoming.keep()

    @contextmanager
    def receiving(self, name: str) -> "Generator[IncomingArtifact]":
        """Yield what takes an artifact piece by piece; what was not kept when the context ends is gone.

        Raises:
            OperatorError: as `keep` does; it is called `name` then.
        """
        with self._writing(name) as partial:
            self._remove_abandoned()
            with partial.open("xb") as content:
                yield IncomingArtifact(content, lambda sha256: self._keep(partial, sha256))

    def copy_to(self, name: str, target: Path) -> bool:
        """Copy to `target` what somebody put here under a name of their own, not among the artifacts; False: nothing.

        Raises:
            OperatorError: it cannot be read, or is a link: whoever may write there may not read all that we may.
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
                # What was opened is looked at, not what is there beforehand: that may be another a moment later.
                if Path(f"/proc/self/fd/{content.fileno()}").readlink() != source:
                    raise OperatorError(f"{name} leads elsewhere: put a file there, no link")
                if not stat.S_ISREG(os.fstat(content.fileno()).st_mode):
                    return False
                with target.open("xb") as copy:
                    shutil.copyfileobj(content, copy)
        return True

    def discard(self, sha256: str) -> None:
        """Remove an artifact that nothing refers to; none there is no error."""
        if self._bucket is not None:
            self._bucket.delete(sha256)
        self.path(sha256).unlink(missing_ok=True)

    def discard_older(self, age_s: float) -> None:
        """Remove what was put here so long ago, for a store of what is needed for a while only."""
        if self._bucket is not None:
            for name in self._bucket.names_older(age_s):
                self.discard(name)
        elif self._directory.exists():
            _remove_older(self._directory.iterdir(), age_s)

    def _fetch(self, sha256: str) -> None:
        """Copy an artifact of the bucket into the cache."""
        assert self._bucket is not None
        with self._writing(sha256) as partial:
            if not self._bucket.download(sha256, partial):
                raise OperatorError(f"{sha256[:12]}... is not in {self._bucket.place}: register its model again")
            if sha256_of(partial) != sha256:
                raise OperatorError(
                    f"{self._bucket.place} holds other content under {sha256}: register its model again"
                )
            self._publish(partial, sha256)
            self._verified[sha256] = _identity(partial.stat())  # where another process was faster, its file is hashed
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
                os.link(partial, self.path(sha256))  # unlike a rename it leaves the file that others may hold
        _sync_directory(self._directory)

    @contextmanager
    def _writing(self, name: str) -> Generator[Path]:
        """Yield where to write a file; what is left there is removed."""
        partial = self._directory / f"{_PARTIAL}{uuid4().hex}"
        try:
            with _explained(name, self._directory):
                self._directory.mkdir(parents=True, exist_ok=True)
                yield partial
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _verify(self, path: Path) -> None:
        """Hash the file unless it is as it was when this process hashed it last."""
        try:
            found = path.stat()
        except OSError as error:
            raise OperatorError(f"artifact {path.name[:12]}... is not in {path.parent}: {error.strerror}") from error
        identity = _identity(found)
        if self._verified.get(path.name) == identity:
            return
        if sha256_of(path) != path.name:
            raise OperatorError(f"{path} is damaged: its content is not what was registered; register the model again")
        self._verified[path.name] = identity

    def _remove_abandoned(self) -> None:
        _remove_older(self._directory.glob(f"{_PARTIAL}*"), _ABANDONED_S)


class IncomingArtifact:
    """An artifact that comes piece by piece. Methods block."""

    def __init__(self, content: BinaryIO, keep: Callable[[str], KeptArtifact]) -> None:
        self._content = content
        self._keep = keep
        self._digest = hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        """Take the next piece."""
        self._digest.update(chunk)
        self._content.write(chunk)

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has come so far."""
        return self._digest.hexdigest()

    def keep(self) -> KeptArtifact:
        """Keep it, whole as it is now."""
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
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would have us wait for who writes


def _remove_older(files: Iterable[Path], age_s: float) -> None:
    for file in files:
        with suppress(FileNotFoundError):  # another process was faster
            if file.is_file() and time.time() - file.stat().st_mtime > age_s:
                file.unlink()


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


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
