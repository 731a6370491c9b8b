"""File formats of batch jobs, one file for each with its input and output; the suffix decides the format.

Reading order: file_format (abstract input and output) -> json_lines, csv_table, npz, parquet, file_folder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from infaas.batch.formats.csv_table import CsvOutput, CsvTable
from infaas.batch.formats.file_folder import FileFolder
from infaas.batch.formats.file_format import OutputFormat, RowFile
from infaas.batch.formats.json_lines import JsonLines, JsonOutput
from infaas.batch.formats.npz import NpzArrays, NpzOutput
from infaas.batch.formats.parquet import ParquetOutput, ParquetTable
from schemas.errors import OperatorError
from schemas.rows.catalog import TensorSpec

_FORMATS: Final[dict[str, tuple[type[RowFile], Callable[[], OutputFormat]]]] = {
    ".jsonl": (JsonLines, JsonOutput),
    ".ndjson": (JsonLines, JsonOutput),
    ".csv": (CsvTable, CsvOutput),
    ".npz": (NpzArrays, NpzOutput),
    ".parquet": (ParquetTable, ParquetOutput),
}
"""Input and output of a format, by the suffix."""


def open_source(path: Path, inputs: Sequence[TensorSpec]) -> RowFile:
    """Return the rows of a file, or of a folder of files, as inputs of a task.

    Raises:
        OperatorError: the format is not supported, the file cannot be read, or an input of the task is missing.
    """
    reader, _ = (FileFolder, None) if path.is_dir() else _FORMATS.get(path.suffix.lower(), (None, None))
    if reader is None:
        raise OperatorError(f"{path}: cannot read rows from this; use a folder of files, {', '.join(_FORMATS)}")
    try:
        return reader(path, inputs)
    except OSError as error:
        raise OperatorError(f"cannot read {path}: {error.strerror or error}") from error


def output_format(output: Path) -> OutputFormat:
    """Return the format of an output file.

    Raises:
        OperatorError: the suffix is not supported.
    """
    _, make = _FORMATS.get(output.suffix.lower(), (None, None))
    if make is None:
        raise OperatorError(f"{output}: cannot write results in this form; use {', '.join(_FORMATS)}")
    return make()
