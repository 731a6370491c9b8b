"""NumPy's .npz: an array `row` with the numbers of the rows that were answered, and an array for each output.

Chunks are appended as arrays in the form of .npy, one after the other; at the end each output is copied out of them,
chunk by chunk. Texts become arrays of texts as long as the longest. What rows are called is left out.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from infaas.batch.rows import ChunkResult
from infaas.batch.sinks.output_format import OutputFormat, as_texts, in_one
from schemas.errors import OperatorError
from schemas.tensors import BF16, Array, float32_of

_ROW: Final = "row"


class NpzOutput(OutputFormat):
    """Answers as .npz."""

    def encode(self, result: ChunkResult) -> bytes:
        """See `OutputFormat.encode`: how many arrays, then the name and the values of each."""
        rows = in_one(result)
        if rows is None:
            return b""
        buffer = io.BytesIO()
        arrays = {_ROW: rows.numbers} | {name: _plain(array) for name, array in rows.outputs.items() if name != _ROW}
        np.save(buffer, np.int64(len(arrays)))
        for name, array in arrays.items():
            np.save(buffer, np.str_(name))
            np.save(buffer, array)
        return buffer.getvalue()

    def complete(self, appended: Path, whole: Path) -> Path:
        """See `OutputFormat.complete`."""
        forms = _forms(appended)
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, (dtype, shape) in forms.items():
                entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same rows make the same bytes
                with archive.open(entry, "w", force_zip64=True) as member:
                    header: dict[str, Any] = {"descr": dtype.str, "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_2_0(member, header)
                    for found, array in _arrays(appended):
                        if found == name:
                            member.write(np.ascontiguousarray(array.astype(dtype)).tobytes())
        return whole


def _forms(appended: Path) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The type and the shape of each output, over all chunks."""
    forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {_ROW: (np.dtype(np.int64), (0,))}
    for name, array in _arrays(appended):
        dtype, shape = forms.get(name, (array.dtype, (0, *array.shape[1:])))
        if array.shape[1:] != shape[1:]:
            raise OperatorError(f"output {name!r} is not of one shape in all rows; write to a .jsonl file")
        forms[name] = np.result_type(dtype, array.dtype), (shape[0] + len(array), *shape[1:])
    return forms


def _arrays(appended: Path) -> Iterator[tuple[str, Array]]:
    size = appended.stat().st_size
    with appended.open("rb") as file:
        while file.tell() < size:
            for _ in range(int(_load(file))):
                yield str(_load(file)), _load(file)


def _load(file: BinaryIO) -> Any:
    return np.lib.format.read_array(file, allow_pickle=False)


def _plain(array: Array) -> Array:
    if array.dtype == BF16:
        return float32_of(array)
    return as_texts(array).astype(np.str_) if array.dtype == object else array
