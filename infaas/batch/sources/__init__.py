"""Input files of batch jobs; the suffix decides the format.

Reading order: row_file (abstract base class) -> row_shape -> json_row -> chunking (rows to chunks) -> jsonl, csv_table,
npz, parquet, file_folder.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from infaas.batch.sources.csv_table import CsvTable
from infaas.batch.sources.file_folder import FileFolder
from infaas.batch.sources.jsonl import JsonLines
from infaas.batch.sources.npz import NpzArrays
from infaas.batch.sources.parquet import ParquetTable
from infaas.batch.sources.row_file import RowFile
from schemas.errors import OperatorError
from schemas.rows.catalog import TensorSpec

_KINDS: Final[dict[str, type[RowFile]]] = {
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": CsvTable,
    ".npz": NpzArrays,
    ".parquet": ParquetTable,
}


def open_source(path: Path, inputs: Sequence[TensorSpec]) -> RowFile:
    """Return the rows of a file, or of a folder of files, as inputs of a task.

    Raises:
        OperatorError: the format is not supported, the file cannot be read, or an input of the task is missing.
    """
    kind = FileFolder if path.is_dir() else _KINDS.get(path.suffix.lower())
    if kind is None:
        raise OperatorError(f"{path}: cannot read rows from this; use a folder of files, {', '.join(_KINDS)}")
    try:
        return kind(path, inputs)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror or error}") from error
