"""NumPy .npz output: an array `row` with the numbers of the answered rows, and one array per output.

Chunks are appended as consecutive .npy arrays. At the end, each output is copied into the archive chunk by chunk; the
data of other outputs is skipped. An array of text has the width of its longest text. Row ids are not stored.
"""

import io
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from infaas.batch.rows import ChunkResult
from infaas.batch.sinks.output_format import ROW, OutputFormat, as_texts, in_one
from infaas.batch.sources.npz import read_header
from schemas.errors import OperatorError
from schemas.tensors import BF16, Array, float32_of


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
    """Header of an array in a chunk."""

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
    if array.dtype == BF16:
        return float32_of(array)
    return as_texts(array).astype(np.str_) if array.dtype == object else array
