"""Folder input, for example of images: one row per file. The content is the task's only input, the path is the row id.

Files are ordered by path, including those of subfolders. Names that begin with a dot are ignored. Memory holds only the
entries of the folders on the current path, never all files.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from infaas.batch.formats.file_format import RowFile
from infaas.batch.rows import Chunk, ReadRow, SourcePosition, in_chunks
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import bytes_array


class FileFolder(RowFile):
    """Rows of a folder."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        if len(self.inputs) != 1 or self.inputs[0].datatype != "BYTES":
            raise OperatorError(
                f"{path} is a folder, but the task takes tensors: only a task that takes files, e.g. images (`infaas "
                "register --image`), can read a folder"
            )
        sizes = [(path / name).stat().st_size for name in _walk(path)]
        self.total = len(sizes)
        self._bytes = sum(sizes)
        if not sizes:
            raise OperatorError(f"{path} is a folder without files")

    def fingerprint(self) -> str:
        """Return the folder's path, its number of files and their total size."""
        return f"{self.path.absolute()}, {self.total} files, {self._bytes} bytes"

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return self._bytes / max(self.total or 0, 1)

    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        return in_chunks(self._rows(str(begin.get("after", "")), int(begin.get("row", 0))), size)

    def _rows(self, after: str, number: int) -> Iterator[ReadRow]:
        spec = self.inputs[0]
        shape = (1, *(1 for _ in spec.shape[1:]))
        for name in _walk(self.path, after):
            end: SourcePosition = {"row": number + 1, "after": name}
            try:
                content = (self.path / name).read_bytes()
            except OSError as error:
                yield ReadRow(number, InvalidRequest(f"cannot read the file: {error.strerror or error}"), 0, end, name)
            else:
                yield ReadRow(number, {spec.name: bytes_array([content]).reshape(shape)}, len(content), end, name)
            number += 1


def _walk(folder: Path, after: str = "", inside: str = "") -> Iterator[str]:
    """Yield the paths of files after `after`, in order; a folder sorts as its name followed by `/`."""
    with os.scandir(folder / inside) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
        folders = [f"{inside}{entry.name}/" for entry in seen if entry.is_dir(follow_symlinks=False)]
        found = sorted([*folders, *(f"{inside}{entry.name}" for entry in seen if entry.is_file())])
    for path in found:
        if not path.isascii() and _is_odd(path):
            raise OperatorError(f"{folder}: the name of {path!r} is not UTF-8; rename it")
        if path.endswith("/"):
            if path > after or after.startswith(path):
                yield from _walk(folder, after, path)
        elif path > after:
            yield path


def _is_odd(name: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in name)
