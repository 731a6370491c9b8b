"""Choice of the output format by the file name."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from infaas.batch.sinks.csv_output import CsvOutput
from infaas.batch.sinks.json_output import JsonOutput
from infaas.batch.sinks.npz_output import NpzOutput
from infaas.batch.sinks.output_format import OutputFormat
from infaas.batch.sinks.parquet_output import ParquetOutput
from schemas.errors import OperatorError

_FORMATS: Final[dict[str, Callable[[], OutputFormat]]] = {
    ".jsonl": JsonOutput,
    ".ndjson": JsonOutput,
    ".csv": CsvOutput,
    ".npz": NpzOutput,
    ".parquet": ParquetOutput,
}


def output_format(output: Path) -> OutputFormat:
    """Return the format of an output file.

    Raises:
        OperatorError: the suffix is not supported.
    """
    make = _FORMATS.get(output.suffix.lower())
    if make is None:
        raise OperatorError(f"{output}: cannot write results in this form; use {', '.join(_FORMATS)}")
    return make()
