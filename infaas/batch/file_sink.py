"""Sink into a file that holds each result exactly once, even if the job is killed and resumed.

While the job runs, its files are in the folder `OUT.job` next to the output: the results so far, the failed rows, the
checkpoint, and a lock that excludes other jobs. At the end, the output and `OUT.failed.jsonl` (if rows have failed) are
moved to their final names, and the folder is deleted. So a file with the output's name is always complete.

A commit makes the results durable before the checkpoint that counts them:

    results -> output, failed rows (appended) -> fsync of both -> checkpoint (a new file, fsync, renamed over the old)

Data beyond the sizes in the checkpoint is cut off when the job resumes.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from infaas.batch.formats.file_format import OutputFormat
from infaas.batch.formats.json_lines import failed_line
from infaas.batch.rows import ChunkResult
from infaas.batch.sink import BatchTerms, Progress
from schemas.errors import OperatorError

FILE: Final = "checkpoint.json"


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Last commit of a batch job."""

    terms: BatchTerms
    progress: Progress
    output_bytes: int = 0
    failed_bytes: int = 0
    finished: bool = False
    """True if all rows are done and only the output has to be moved to its final name."""


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in a job's folder; None if there is none.

    Raises:
        OperatorError: the checkpoint cannot be decoded.
    """
    file = folder / FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise OperatorError(f"{file} is not a checkpoint of this version ({error}); --restart starts over") from error


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint atomically and durably."""
    new = folder / f"{FILE}.new"
    with new.open("wb") as file:
        file.write(msgspec.json.encode(checkpoint))
        file.flush()
        os.fsync(file.fileno())
    new.replace(folder / FILE)
    sync_folder(folder)


def sync_file(file: Path) -> None:
    """Make the content of a file durable."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_OUTPUT: Final = "output"
_FAILED: Final = "failed.jsonl"
_WHOLE: Final = "whole"
_LOCK: Final = "lock"


class FileSink:
    """Sink of a batch job into the file `output`; see `ResultSink`.

    Args:
        output: path of the output.
        form: format of the output.
        overwrite: replace an existing output.
        restart: discard the work of an earlier run.
    """

    def __init__(self, output: Path, form: OutputFormat, *, overwrite: bool = False, restart: bool = False) -> None:
        self.output = output
        self.failed_rows = output.with_name(f"{output.name}.{_FAILED}")
        self._folder = output.with_name(f"{output.name}.job")
        self._form = form
        self._overwrite = overwrite
        self._restart = restart
        self._checkpoint: Checkpoint | None = None
        self._lock: int | None = None
        self._appended: BinaryIO | None = None
        self._failed: BinaryIO | None = None

    def left(self) -> Checkpoint | None:
        """Return the checkpoint of an earlier run; None if there is none or with `restart`."""
        return None if self._restart else read_checkpoint(self._folder)

    async def open(self, terms: BatchTerms) -> Progress | None:
        """See `ResultSink.open`."""
        try:
            return self._open(terms)
        except OSError as error:
            raise OperatorError(f"cannot write {error.filename or self._folder}: {error.strerror}") from error

    def _open(self, terms: BatchTerms) -> Progress | None:
        self._lock = _locked(self._folder)
        found = self.left()
        if found is None and self.output.exists() and not self._overwrite:
            raise OperatorError(f"{self.output} exists already; --overwrite replaces it")
        if found is not None and found.terms != terms:
            raise OperatorError(
                f"{self._folder} has the results of another batch job ({_differences(found.terms, terms)}); go on with "
                "that one, or start again with --restart"
            )
        if found is None:
            self._clear()
        self._checkpoint = found or Checkpoint(terms=terms, progress=Progress())
        if not self._checkpoint.finished:
            self._cut_off(self._checkpoint)
        return found.progress if found else None

    def _clear(self) -> None:
        for file in self._folder.iterdir():
            if file.name != _LOCK:
                file.unlink()

    def _cut_off(self, checkpoint: Checkpoint) -> None:
        appended = self._folder / _OUTPUT
        self._appended = _open_at(appended, checkpoint.output_bytes)
        self._failed = _open_at(self._folder / _FAILED, checkpoint.failed_bytes)
        if checkpoint.output_bytes:
            self._form.resume(appended)

    async def write(self, result: ChunkResult) -> None:
        """See `ResultSink.write`."""
        assert self._checkpoint is not None
        assert self._appended is not None
        assert self._failed is not None
        output = self._form.encode(result)
        failed = b"".join(map(failed_line, result.failed))
        try:
            self._appended.write(output)
            self._failed.write(failed)
        except OSError as error:
            raise OperatorError(f"cannot write to {self._folder}: {error.strerror}; finished rows are kept") from error
        sizes = self._checkpoint.output_bytes + len(output), self._checkpoint.failed_bytes + len(failed)
        self._checkpoint = msgspec.structs.replace(self._checkpoint, output_bytes=sizes[0], failed_bytes=sizes[1])

    async def commit(self, progress: Progress) -> None:
        """See `ResultSink.commit`."""
        assert self._checkpoint is not None
        self._checkpoint = msgspec.structs.replace(self._checkpoint, progress=progress)
        await self._in_thread(self._sync, self._checkpoint)

    def _sync(self, checkpoint: Checkpoint) -> None:
        for file in (self._appended, self._failed):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
        write_checkpoint(self._folder, checkpoint)

    async def _in_thread(self, step: Callable[[Checkpoint], None], checkpoint: Checkpoint) -> None:
        """Run a write in a thread; if cancelled, wait for its end, since later steps write the same files."""
        writing = asyncio.get_running_loop().run_in_executor(None, step, checkpoint)
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        except OSError as error:
            raise OperatorError(f"cannot write to {self._folder}: {error.strerror}; finished rows are kept") from error

    async def finish(self, progress: Progress) -> None:
        """See `ResultSink.finish`. If the process is killed during the call, the next run completes it."""
        assert self._checkpoint is not None
        self._checkpoint = msgspec.structs.replace(self._checkpoint, finished=True)
        await self.commit(progress)
        self._close_files()
        await self._in_thread(self._put_in_place, self._checkpoint)

    def _put_in_place(self, checkpoint: Checkpoint) -> None:
        appended, failed = self._folder / _OUTPUT, self._folder / _FAILED
        if not checkpoint.failed_bytes:
            self.failed_rows.unlink(missing_ok=True)  # left by an earlier job
        elif failed.exists():
            failed.replace(self.failed_rows)
        if appended.exists():
            whole = self._form.complete(appended, self._folder / _WHOLE)
            sync_file(whole)
            whole.replace(self.output)
        sync_folder(self.output.absolute().parent)
        shutil.rmtree(self._folder)

    async def close(self) -> None:
        """See `ResultSink.close`."""
        self._close_files()
        if self._lock is not None:
            if self._folder.exists() and not (self._folder / FILE).exists():  # nothing was committed
                shutil.rmtree(self._folder)
            os.close(self._lock)
            self._lock = None

    def _close_files(self) -> None:
        for file in (self._appended, self._failed):
            if file is not None:
                with suppress(OSError):  # data that could not be written is not committed
                    file.close()
        self._appended = self._failed = None


def _locked(folder: Path) -> int:
    """Create and lock the job's folder; returns the lock's descriptor, which releases the lock when closed.

    Raises:
        OperatorError: another job holds the lock.
    """
    while True:
        folder.mkdir(exist_ok=True)
        lock = folder / _LOCK
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(descriptor), lock.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise OperatorError(
                f"another batch job writes to {folder} right now; wait for it, or name another output"
            ) from None
        os.close(descriptor)  # the previous holder has finished and deleted the folder


def _open_at(file: Path, size: int) -> BinaryIO:
    """Open a file for appending after its first `size` bytes; the rest is cut off.

    Raises:
        OperatorError: the file is shorter than `size`.
    """
    opened = os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
    found = opened.seek(0, os.SEEK_END)
    if found < size:
        opened.close()
        raise OperatorError(f"{file} has {found} bytes, but {size} according to its checkpoint; --restart starts over")
    opened.truncate(size)
    opened.seek(size)
    return opened


def _differences(found: BatchTerms, wanted: BatchTerms) -> str:
    names = [name for name in BatchTerms.__struct_fields__ if getattr(found, name) != getattr(wanted, name)]
    return "; ".join(f"{name}: {getattr(found, name)}, not {getattr(wanted, name)}" for name in names)
