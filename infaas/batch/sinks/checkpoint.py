"""Checkpoint of a batch job that writes a file: its progress and the committed sizes of the output and the failed rows.

    results -> output, failed rows (appended) -> fsync of both -> checkpoint (a new file, fsync, renamed over the old)

So all data that a checkpoint counts is durable. Data beyond it is cut off when the job resumes.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

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
