"""NumPy .npz: one array per tensor, whose first axis is the rows.

Input rows are read from within the archive; arrays are never loaded as a whole, and arrays that are no input are
ignored. A resumed job seeks to its position if the array is stored uncompressed, as by `numpy.savez`. A compressed
array (`savez_compressed`) is decompressed up to there.

The output has an array `row` with the numbers of the answered rows. Chunks are appended as consecutive .npy arrays. At
the end, each output is copied into the archive chunk by chunk; the data of other outputs is skipped. An array of text
has the width of its longest text. Row ids are not stored.
"""

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, BinaryIO, Final, NamedTuple

import numpy as np

from infaas.batch.formats.file_format import ROW, OutputFormat, RowFile, as_plain, in_one, row_shape
from infaas.batch.rows import CHUNK_BYTES, Chunk, ChunkResult, InputRows, SourcePosition
from schemas.errors import InvalidRequest, OperatorError
from schemas.rows.catalog import TensorSpec
from schemas.tensors import BYTES, Array, bytes_array, dtype_of

_LOCAL_HEADER: Final = struct.Struct("<26xHH")
"""Lengths of the file name and the extra field in a zip local header; the data follows them."""
_BLOCK: Final = 1 << 20


class NpzArrays(RowFile):
    """Rows of the arrays of an .npz file."""

    def __init__(self, path: Path, inputs: Sequence[TensorSpec]) -> None:
        super().__init__(path, inputs)
        try:
            with zipfile.ZipFile(path) as archive:
                self._members = [_Member(archive, spec, path) for spec in self.inputs]
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise OperatorError(f"{path} is not an .npz file of plain arrays: {error}") from error
        rows = {member.rows for member in self._members}
        if len(rows) != 1:
            raise OperatorError(f"{path}: the arrays of the inputs have different lengths: {sorted(rows)}")
        self.total = rows.pop()

    def row_bytes(self) -> float:
        """See `RowFile.row_bytes`."""
        return sum(member.row_bytes for member in self._members)

    def read(self, begin: SourcePosition, size: int) -> Iterator[Chunk]:
        """See `RowFile.read`."""
        total, start = self.total or 0, int(begin.get("row", 0))
        step = max(1, min(size, int(CHUNK_BYTES / max(self.row_bytes(), 1))))
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            files = [stack.enter_context(member.open(archive, start)) for member in self._members]
            for first in range(start, total, step):
                count = min(step, total - first)
                arrays = {m.name: m.read(file, count) for m, file in zip(self._members, files, strict=True)}
                numbers = np.arange(first, first + count, dtype=np.int64)
                yield Chunk((InputRows(numbers, arrays),), {"row": first + count})


class _Member:
    """Array in the archive: the offset of its data, and its conversion to an input."""

    def __init__(self, archive: zipfile.ZipFile, spec: TensorSpec, path: Path) -> None:
        self.name = spec.name
        self._path = path
        self._file = f"{spec.name}.npy"
        if self._file not in archive.namelist():
            found = ", ".join(name.removesuffix(".npy") for name in archive.namelist())
            raise OperatorError(f"{path}: there is no array {spec.name!r}; it has {found or 'none'}")
        with archive.open(self._file) as member:
            shape, fortran, self._dtype = read_header(member)
            self._data = member.tell()
        if not shape or fortran or self._dtype.hasobject:
            kind = "objects, which are not supported" if self._dtype.hasobject else "no rows as its first axis"
            raise OperatorError(f"{path}: the array {spec.name!r} has {kind}")
        self.rows, self._row_shape = shape[0], shape[1:]
        self.row_bytes = self._dtype.itemsize * math.prod(self._row_shape)
        self._wanted = BYTES if spec.datatype == "BYTES" else dtype_of(spec.datatype, spec.name)
        try:
            self._shape = row_shape(self._row_shape, spec)
        except InvalidRequest as error:
            raise OperatorError(f"{path}: {error}") from None
        is_text = self._dtype.kind in "US"
        if is_text != (self._wanted is BYTES) or not (is_text or np.can_cast(self._dtype, self._wanted, "same_kind")):
            raise OperatorError(f"{path}: {spec.name!r} is an array of {self._dtype}; the task takes {spec.datatype}")

    def open(self, archive: zipfile.ZipFile, row: int) -> IO[bytes]:
        """Open the array's data at a row."""
        info = archive.getinfo(self._file)
        skip = self._data + row * self.row_bytes
        if info.compress_type == zipfile.ZIP_STORED:
            file = self._path.open("rb")
            file.seek(info.header_offset)
            name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            file.seek(name + extra + skip, 1)
            return file
        member = archive.open(self._file)
        while skip > 0 and (block := member.read(min(skip, _BLOCK))):
            skip -= len(block)
        return member

    def read(self, file: IO[bytes], count: int) -> Array:
        """Read the next `count` rows and convert them to the type and shape of the input."""
        data = file.read(count * self.row_bytes)
        if len(data) != count * self.row_bytes:
            raise OperatorError(f"{self._path}: the array {self.name!r} ends before its last row")
        array = np.frombuffer(data, self._dtype).reshape(count, *self._shape)
        if self._wanted is not BYTES:
            return array.astype(self._wanted, casting="same_kind", copy=False)
        return bytes_array(array.reshape(-1).tolist()).reshape(array.shape)


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Read the header of an array in .npy format; returns the shape, true for Fortran order, and the dtype."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)


class NpzOutput(OutputFormat):
    """Writer of .npz files."""

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`: the number of arrays, then the name and the values of each."""
        rows = in_one(result)
        if rows is None:
            return b""
        buffer = io.BytesIO()
        arrays = {ROW: rows.numbers} | {name: _plain(array) for name, array in rows.outputs.items()}
        np.save(buffer, np.int64(len(arrays)))
        for name, array in arrays.items():
            np.save(buffer, np.str_(name))
            np.save(buffer, array)
        return buffer.getvalue()

    def complete(self, appended: Path, whole: Path) -> Path:
        """See `OutputFormat.complete`."""
        with appended.open("rb") as file:
            forms = _forms(file)
            with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for name, (dtype, shape) in forms.items():
                    entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, so that equal rows give equal files
                    with archive.open(entry, "w", force_zip64=True) as member:
                        header: dict[str, Any] = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                        np.lib.format.write_array_header_2_0(member, header)
                        for found in _arrays(file):
                            if found.name == name:
                                member.write(np.ascontiguousarray(found.read(file).astype(dtype)).tobytes())
        return whole


class _Found(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    """Offset of the array in the file."""

    def read(self, file: BinaryIO) -> Array:
        """Read the array."""
        file.seek(self.begin)
        return _load(file)


def _forms(file: BinaryIO) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return the dtype and the shape of each output over all chunks."""
    forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {ROW: (np.dtype(np.int64), (0,))}
    for found in _arrays(file):
        rows, *rest = found.shape
        dtype, shape = forms.get(found.name, (found.dtype, (0, *rest)))
        if tuple(rest) != shape[1:]:
            raise OperatorError(f"rows have different shapes of output {found.name!r}; write to a .jsonl file")
        forms[found.name] = np.result_type(dtype, found.dtype), (shape[0] + rows, *rest)
    return forms


def _arrays(file: BinaryIO) -> Iterator[_Found]:
    """Yield the headers of the arrays of all chunks; their data is skipped."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    while file.tell() < size:
        for _ in range(int(_load(file))):
            name, begin = str(_load(file)), file.tell()
            shape, _, dtype = read_header(file)
            end = file.tell() + math.prod(shape) * dtype.itemsize
            yield _Found(name, dtype, shape, begin)
            file.seek(end)


def _load(file: BinaryIO) -> Any:
    return np.lib.format.read_array(file, allow_pickle=False)


def _plain(array: Array) -> Array:
    plain = as_plain(array)
    return plain.astype(np.str_) if plain.dtype == object else plain
