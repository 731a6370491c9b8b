"""Files of traces, read and written column by column: CSV, plain or compressed by gzip or xz, and Parquet.

A row is its time and the text of its other cells. Few texts differ, so each is split, converted and checked once for
the whole file, and a row costs one lookup. The format is documented in `docs/traces.md`.
"""

import csv
import gzip
import io
import lzma
from array import array
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from schemas.errors import OperatorError

COLUMNS: Final = ("time_s", "task", "latency_ms", "min_accuracy", "max_cost", "batch", "tenant", "mode", "target")
_OPTIONAL: Final = "target"
_GZIP_LEVEL: Final = 6
_XZ_PRESET: Final = 1
"""The default of 6 takes a minute for a million rows and saves a tenth of the bytes."""
_PARQUET: Final = ".parquet"
_SUFFIXES: Final = (".csv", ".csv.gz", ".csv.xz", _PARQUET)

Cells = Mapping[str, str]
"""Text of each cell that is not empty, by column, without the time."""


class TraceColumns(NamedTuple):
    """Columns of a file, not yet checked."""

    time_s: NDArray[np.float64]
    kind: NDArray[np.int32]
    """Index into `kinds` of each row."""
    kinds: Sequence[Cells]


def row_place(path: Path, row: int) -> str:
    """Return the place of a row, counted from 0, for messages."""
    return f"{path}, row {row + 1}" if path.suffix == _PARQUET else f"{path}:{row + 2}"


def read_columns(path: Path) -> TraceColumns:
    """Read a file in the format of its name's suffix.

    Raises:
        OperatorError: the suffix is unknown, the file is damaged, a column is missing or unknown, or a time is not a
            number.
        OSError: the file cannot be read.
    """
    _check_suffix(path)
    if path.suffix == _PARQUET:
        return _read_parquet(path)
    with _open_text(path, "r") as file:
        try:
            return _read_csv(path, file)
        except (EOFError, UnicodeDecodeError, lzma.LZMAError, gzip.BadGzipFile, csv.Error) as error:
            raise OperatorError(f"{path} is damaged or not the CSV file that its name says: {error}") from error


def write_columns(path: Path, columns: TraceColumns) -> None:
    """Write a file in the format of its name's suffix; equal columns give equal bytes.

    Raises:
        OperatorError: the suffix is unknown, or pyarrow is missing.
        OSError: the file cannot be written.
    """
    _check_suffix(path)
    names = COLUMNS if any(_OPTIONAL in cells for cells in columns.kinds) else COLUMNS[:-1]
    if path.suffix == _PARQUET:
        _write_parquet(path, columns, names)
        return
    with _open_text(path, "w") as file:
        file.write(",".join(names) + "\n")
        rest = [f",{','.join(cells.get(name, '') for name in names[1:])}\n" for cells in columns.kinds]
        pairs = zip(columns.time_s.tolist(), columns.kind.tolist(), strict=True)
        file.writelines(repr(time_s) + rest[kind] for time_s, kind in pairs)


def check_target(path: Path) -> None:
    """Check that `write_columns` can write a file of this name, before there is something to write.

    Raises:
        OperatorError: its folder does not exist, the suffix is unknown, or pyarrow is missing.
    """
    _check_suffix(path)
    if not path.parent.is_dir():
        raise OperatorError(f"there is no folder {path.parent}: create it, or choose another name")
    if path.suffix == _PARQUET:
        import_pyarrow(path)


def _check_suffix(path: Path) -> None:
    if not path.name.endswith(_SUFFIXES):
        raise OperatorError(f"{path}: the name of a trace must end in {', '.join(_SUFFIXES)}")


@contextmanager
def _open_text(path: Path, mode: str) -> Generator[TextIO]:
    """Open a file whose compression its name says; equal texts are compressed to equal bytes."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    with ExitStack() as stack:
        opened: IO[bytes] = stack.enter_context(path.open(f"{mode}b"))
        if path.suffix == ".gz":
            compressed = gzip.GzipFile("", f"{mode}b", _GZIP_LEVEL, opened, mtime=0)
            opened = cast(IO[bytes], stack.enter_context(compressed))
        elif path.suffix == ".xz":
            preset = None if mode == "r" else _XZ_PRESET
            opened = cast(IO[bytes], stack.enter_context(lzma.LZMAFile(opened, mode, preset=preset)))
        yield stack.enter_context(io.TextIOWrapper(opened, encoding, newline=None if mode == "r" else "\n"))


def _read_csv(path: Path, file: TextIO) -> TraceColumns:
    names = next(csv.reader([file.readline()]), [])
    _check_header(path, names)
    if names[0] != COLUMNS[0]:
        raise OperatorError(f"{path}:1: the first column must be {COLUMNS[0]}")
    times, kind, texts = array("d"), array("i"), dict[str, int]()
    for line in file:
        time, _, rest = line.partition(",")
        try:
            times.append(float(time))
        except ValueError:
            place = row_place(path, len(times))
            raise OperatorError(f"{place}: time_s must be a number of seconds, not {time.strip()[:80]!r}") from None
        kind.append(texts.setdefault(rest, len(texts)))
    first_rows = np.unique(np.frombuffer(kind, np.int32), return_index=True)[1] if kind else ()
    kinds = [_cells(row_place(path, int(row)), names[1:], text) for row, text in zip(first_rows, texts, strict=True)]
    return TraceColumns(np.array(times), np.array(kind, np.int32), kinds)


def _cells(place: str, names: Sequence[str], text: str) -> Cells:
    values = next(csv.reader([text]), [])
    if len(values) != len(names):
        raise OperatorError(f"{place}: there are {len(values) + 1} cells, but {len(names) + 1} columns in the header")
    return {name: value.strip() for name, value in zip(names, values, strict=True) if value.strip()}


def _check_header(path: Path, names: Iterable[str]) -> None:
    missing = [name for name in COLUMNS if name not in names and name != _OPTIONAL]
    unknown = [name for name in names if name not in COLUMNS]
    if missing or unknown or len({*names}) < len([*names]):
        raise OperatorError(
            f"{path}: the columns of a trace are {', '.join(COLUMNS)} (the last is optional), each once; "
            + (f"add {', '.join(missing)}" if missing else f"take out {', '.join(unknown) or 'the repeated ones'}")
        )


def _read_parquet(path: Path) -> TraceColumns:
    parquet, arrow = import_pyarrow(path)
    try:
        table = parquet.read_table(path, partitioning=None)
        _check_header(path, table.column_names)
        time_s = np.asarray(table.column(COLUMNS[0]).cast(arrow.float64()).fill_null(np.nan), np.float64)
    except arrow.ArrowException as error:
        raise OperatorError(f"{path} is not a Parquet file of a trace: {error}") from error
    code, values = np.zeros(len(time_s), np.int64), list[tuple[str, ...]]([()])
    for name in table.column_names:
        if name != COLUMNS[0]:
            code, values = _combined(code, values, table.column(name))
    names = [name for name in table.column_names if name != COLUMNS[0]]
    kinds = [{name: text for name, text in zip(names, row, strict=True) if text} for row in values]
    return TraceColumns(time_s, code.astype(np.int32), kinds)


def _combined(
    code: NDArray[np.int64], values: list[tuple[str, ...]], column: Any
) -> tuple[NDArray[np.int64], list[tuple[str, ...]]]:
    """Extend each distinct row by the cells of one more column; `code` is the index of a row's values."""
    encoded = column.combine_chunks().dictionary_encode("encode")
    cells = ["" if value is None else cell_text(value) for value in encoded.dictionary.to_pylist()]
    found, inverse = np.unique(code * len(cells) + np.asarray(encoded.indices, np.int64), return_inverse=True)
    return inverse, [(*values[old], cells[new]) for old, new in zip(*np.divmod(found, len(cells)), strict=True)]


def cell_text(value: object) -> str:
    """Return the text of a cell; whole numbers have no decimal point."""
    return str(value).removesuffix(".0")


def _write_parquet(path: Path, columns: TraceColumns, names: Sequence[str]) -> None:
    parquet, arrow = import_pyarrow(path)
    types = dict.fromkeys(("latency_ms", "min_accuracy", "max_cost"), arrow.float64()) | {"batch": arrow.int64()}
    arrays: dict[str, Any] = {names[0]: columns.time_s}
    for name in names[1:]:
        cells = [cells.get(name) for cells in columns.kinds]
        arrays[name] = arrow.array(cells, arrow.string()).cast(types.get(name, arrow.string())).take(columns.kind)
    parquet.write_table(arrow.table(arrays), path)


def import_pyarrow(path: Path) -> tuple[Any, Any]:
    """Return the modules `pyarrow.parquet` and `pyarrow`; raises OperatorError without them."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise OperatorError(f"{path}: Parquet needs pyarrow: pip install 'infaas[parquet]'") from None
    return parquet, arrow
