"""Reads example inputs and labels in common formats: arrays, a folder for each class, or a table.

* `.npz`: an array per input, and `label`. Read without pickles. Arrays are converted to the model's datatypes if that
  loses no more than precision.
* A folder with a folder per class: if the only input is BYTES, the content of each file is an input.
* `.jsonl`, for language models: rows of `prompt`, or of a chat as `messages`; and `answer`, or several right ones.
* `.csv` with a header: a column per BYTES input, or `path` with files beside the table; and `label`. If the only input
  is a vector, all other columns are its numbers.

`read_rows` returns labels as the file holds them: integers, names of classes, or several columns. `read_labels`
converts names of classes to numbers, in the order of the model's scores.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from registry.signature import VARIABLE, fits
from schemas.errors import InvalidRequest, OperatorError
from schemas.generation import TEXT_INPUT
from schemas.rows.catalog import TensorSpec
from schemas.tensors import BF16, bf16_of, bytes_array, dtype_of

LABEL: Final = "label"
_TABLES: Final = (".csv", ".tsv")
_PROMPTS: Final = ".jsonl"
_PATH: Final = "path"
_FEWEST: Final = 10
_SEED: Final = 0

Arrays = dict[str, NDArray[Any]]
_SHOWN: Final = 5


class FileRows(msgspec.Struct, frozen=True):
    """Content of a file or a folder."""

    inputs: Arrays
    labels: NDArray[Any] | None
    """One label a row, or a row of several; None without labels."""
    classes: tuple[str, ...] = ()
    """Names of all classes, if the source itself lists them."""

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(next(iter(self.inputs.values())))


class NotPlainArrays(Exception):
    """The file is not an .npz of arrays without pickles."""


def read_npz(file: Path) -> Arrays:
    """Read an .npz of plain arrays; blocks.

    Raises:
        OSError: the file cannot be read.
        NotPlainArrays: it has another format, or is damaged.
    """
    try:
        with file.open("rb") as content, np.load(content, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors
        raise NotPlainArrays(str(error)) from error


def read_rows(source: Path, inputs: Sequence[TensorSpec], limit: int) -> FileRows:
    """Read the inputs of a model, and labels; from a folder at most `limit` files; blocks.

    Raises:
        OperatorError: the source cannot be read.
        InvalidRequest: data is missing or does not fit the model.
    """
    try:
        if source.is_dir():
            rows = _read_folder(source, inputs, limit)
        elif source.suffix.lower() == _PROMPTS:
            rows = _read_prompts(source, inputs)
        elif source.suffix.lower() in _TABLES:
            rows = _read_table(source, inputs)
        else:
            rows = _read_arrays(source, inputs)
    except OSError as error:
        raise OperatorError(f"cannot read {error.filename or source}: {error.strerror or error}") from error
    lengths = {name: len(array) for name, array in rows.inputs.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise InvalidRequest(f"{source.name}: the arrays have different numbers of rows ({shown})")
    if rows.count < _FEWEST:
        raise InvalidRequest(f"{source.name} has {rows.count} rows; at least {_FEWEST} are needed")
    if rows.labels is not None and (rows.labels.ndim == 0 or len(rows.labels) != rows.count):
        raise InvalidRequest(
            f"{source.name}: {LABEL!r} must have {rows.count} rows like the inputs, not {list(rows.labels.shape)}"
        )
    return rows


def converted(array: NDArray[Any], spec: TensorSpec, where: str) -> NDArray[Any]:
    """Return an array in the input's datatype; raises `InvalidRequest` if its shape or kind of number does not fit."""
    wanted = dtype_of(spec.datatype, spec.name)
    if spec.parameter and array.size and (array != array.flat[0]).any():
        raise InvalidRequest(f"{where}: {spec.name!r} must have one value, since a query has one")
    if not fits(array.shape, spec.shape):
        raise InvalidRequest(
            f"{where}: array {spec.name!r} has the shape {list(array.shape)}, the model takes {list(spec.shape)}"
        )
    if wanted.kind == "O" and array.dtype.kind in "US":
        return (np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array).astype(object)
    if wanted == BF16 and array.dtype.kind in "fiu":
        return bf16_of(array.astype(np.float32))
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise InvalidRequest(f"{where}: array {spec.name!r} is {array.dtype}, the model takes {spec.datatype}")
    return array.astype(wanted, copy=False)


# -- arrays ------------------------------------------------------------------------------------------------------------
def _read_arrays(file: Path, inputs: Sequence[TensorSpec]) -> FileRows:
    try:
        arrays = read_npz(file)
    except NotPlainArrays as error:
        raise InvalidRequest(
            f"{file.name} is not an .npz file of plain arrays, a .csv file, or a folder with a folder per class"
        ) from error
    for spec in inputs:
        if spec.name not in arrays:
            raise InvalidRequest(f"{file.name} has no array {spec.name!r}; it has {', '.join(arrays) or 'none'}")
    for spec in inputs:
        if spec.parameter and arrays[spec.name].size == 1:
            others = [len(arrays[one.name]) for one in inputs if not one.parameter and arrays[one.name].ndim]
            arrays[spec.name] = np.repeat(arrays[spec.name].reshape(-1), max(others, default=1))
    return FileRows({spec.name: converted(arrays[spec.name], spec, file.name) for spec in inputs}, arrays.get(LABEL))


# -- files -------------------------------------------------------------------------------------------------------------
def _read_folder(folder: Path, inputs: Sequence[TensorSpec], limit: int) -> FileRows:
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files = [
        (file, name)
        for name in classes
        for file in sorted((folder / name).rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise InvalidRequest(f"{folder.name} has no folder per class with files in it")
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(files))[:limit])
    content = _contents([files[index][0] for index in chosen], inputs, folder.name)
    return FileRows(content, np.array([files[index][1] for index in chosen]), tuple(classes))


def _contents(files: Sequence[Path], inputs: Sequence[TensorSpec], where: str) -> Arrays:
    if len(inputs) != 1 or inputs[0].datatype != "BYTES":
        shown = ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in inputs)
        raise InvalidRequest(
            f"{where} holds files, but the model takes {shown}: declare processing, so that the task takes BYTES, or "
            "give the prepared arrays as .npz"
        )
    return {inputs[0].name: _as_bytes([file.read_bytes() for file in files], inputs[0])}


def _as_bytes(values: Sequence[bytes], spec: TensorSpec) -> NDArray[Any]:
    return bytes_array(values).reshape(-1, *[1] * (len(spec.shape) - 1))


# -- prompts -----------------------------------------------------------------------------------------------------------
class _PromptRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prompt: str = ""
    messages: list[dict[str, Any]] = []
    answer: str | list[str] | None = None

    @property
    def text(self) -> bytes:
        return msgspec.json.encode(self.messages) if self.messages else self.prompt.encode()

    @property
    def right(self) -> str:
        answers = self.answer or ""
        return answers if isinstance(answers, str) else "\n".join(answers)


def _read_prompts(file: Path, inputs: Sequence[TensorSpec]) -> FileRows:
    """Read prompts with their right answers; of several right ones each is on a line of its own in the label."""
    if [spec.name for spec in inputs] != [TEXT_INPUT]:
        raise InvalidRequest(f"{file.name} has prompts, which only language models take")
    try:
        rows = msgspec.json.Decoder(_PromptRow).decode_lines(file.read_bytes())
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"{file.name} must have a JSON object a line, of prompt or messages, and answer: {error}"
        ) from error
    for number, row in enumerate(rows, 1):
        if bool(row.prompt) == bool(row.messages):
            raise InvalidRequest(f"{file.name}, row {number}: give either a prompt or messages")
    labelled = all(row.answer is not None for row in rows)
    return FileRows(
        {TEXT_INPUT: bytes_array([row.text for row in rows])},
        np.array([row.right for row in rows], object) if labelled else None,
    )


# -- tables ------------------------------------------------------------------------------------------------------------
def _read_table(file: Path, inputs: Sequence[TensorSpec]) -> FileRows:
    header, *rows = list(_table_rows(file)) or [[]]
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise InvalidRequest(f"{file.name}, row {number}: {len(row)} columns, but the header has {len(header)}")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(header)}
    labels = columns.pop(LABEL, None)
    return FileRows(_table_inputs(file, columns, inputs), None if labels is None else _typed(labels))


def names_files(file: Path) -> bool:
    """Return true if a table has a column of file paths, which may lead anywhere; blocks.

    Raises:
        InvalidRequest: the file is not a table.
    """
    if file.suffix.lower() not in _TABLES:
        return False
    return _PATH in next(_table_rows(file), [])


def _table_rows(file: Path) -> Iterator[list[str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            rows = csv.reader(content, delimiter="\t" if file.suffix.lower() == ".tsv" else ",")
            yield from ([cell.strip() for cell in row] for row in rows if row)
    except (csv.Error, UnicodeError) as error:
        raise InvalidRequest(f"{file.name} is not a table in UTF-8: {error}") from error


def _table_inputs(file: Path, columns: dict[str, list[str]], inputs: Sequence[TensorSpec]) -> Arrays:
    if all(spec.name in columns and spec.datatype == "BYTES" for spec in inputs):
        return {spec.name: _as_bytes([cell.encode() for cell in columns[spec.name]], spec) for spec in inputs}
    if _PATH in columns:
        return _contents([file.parent / cell for cell in columns[_PATH]], inputs, file.name)
    if len(inputs) == 1 and len(inputs[0].shape) == 2 and inputs[0].datatype != "BYTES":
        table = np.column_stack([_typed(cells) for cells in columns.values()]) if columns else np.empty((0, 0))
        wanted = dtype_of(inputs[0].datatype, inputs[0].name)
        numbers = table.astype(wanted) if table.dtype.kind in "if" and wanted.kind == "f" else table
        return {inputs[0].name: converted(numbers, inputs[0], file.name)}
    wanted = ", ".join(spec.name for spec in inputs)
    raise InvalidRequest(
        f"{file.name} has the columns {', '.join(columns)}: a table needs a column for each BYTES input ({wanted}), or "
        f"{_PATH!r} with files, or the numbers of one vector; give other inputs as .npz"
    )


def _typed(cells: Sequence[str]) -> NDArray[Any]:
    """Return cells as integers if all are, else as floats if all are numbers, else as texts."""
    for kind in (np.int64, np.float64):
        try:
            return np.array(cells).astype(kind)
        except ValueError:
            continue
    return np.array(cells)


class Labels(msgspec.Struct, frozen=True):
    """Labels in the form that a measure compares with outputs."""

    values: NDArray[Any]
    classes: tuple[str, ...] = ()
    """Names of the classes, in the order of the scores; may be empty."""


def read_labels(raw: NDArray[Any], known: Sequence[str], output: TensorSpec, listed: Sequence[str] = ()) -> Labels:
    """Return labels as numbers if the output is numeric; `known` are the classes' names, `listed` those in the source.

    Raises:
        InvalidRequest: a name is unknown, the order of the names is unknown, or a class is beyond the scores.
    """
    names = raw.dtype.kind in "USO"
    if output.datatype == "BYTES":
        return Labels(_label_bytes(raw) if names else raw, tuple(known))
    if names:
        classes = _ordered(tuple(known), raw, output, listed)
        raw = _numbered(raw, classes)
        known = classes
    values = _without_one_hot(raw, output)
    _check_range(values, output)
    return Labels(values, tuple(known))


def _label_bytes(raw: NDArray[Any]) -> NDArray[Any]:
    return bytes_array(raw.ravel().tolist()).reshape(raw.shape)


def _ordered(known: tuple[str, ...], raw: NDArray[Any], output: TensorSpec, listed: Sequence[str]) -> tuple[str, ...]:
    """Return the classes in the order of the scores: as declared, else sorted by name if the list is complete."""
    if known:
        return known
    found = tuple(sorted(listed or {_text(cell) for cell in raw.tolist()}))
    columns = output.shape[-1] if len(output.shape) > 1 else 1
    if len(found) == columns or (columns == 1 and len(found) == 2):
        return found
    shown = "has a variable number of columns" if columns == VARIABLE else f"has {columns} columns"
    raise InvalidRequest(
        f"the labels are {len(found)} names ({', '.join(found[:_SHOWN])}, ...), but {output.name!r} {shown}: give a "
        "file of class names, one per line, in the order of the scores, by --classes"
    )


def _numbered(raw: NDArray[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    numbers = {name: number for number, name in enumerate(classes)}
    unknown = sorted({_text(cell) for cell in raw.ravel().tolist()} - numbers.keys())
    if unknown:
        raise InvalidRequest(
            f"the label {unknown[0]!r} is not a class of this task; its classes are {', '.join(classes[:_SHOWN])}, ..."
        )
    return np.array([numbers[_text(cell)] for cell in raw.ravel().tolist()], np.int64).reshape(raw.shape)


def _text(cell: str | bytes) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else cell


def _without_one_hot(values: NDArray[Any], output: TensorSpec) -> NDArray[Any]:
    """Convert one-hot rows to class numbers, and drop the second dimension of a single column."""
    columns = output.shape[-1] if len(output.shape) == 2 else 0
    flat = values.ndim == 2 and values.shape[1] == columns > 1 and values.dtype.kind in "iub"
    if flat and ((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all():
        return values.argmax(axis=1)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 and columns == 1 else values


def _check_range(values: NDArray[Any], output: TensorSpec) -> None:
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(output.shape) != 2 or output.shape[1] < 2:
        return
    classes = output.shape[1]
    if values.min() < 0 or values.max() >= classes:
        raise InvalidRequest(
            f"labels are {values.min()}..{values.max()}, but the model knows the classes 0..{classes - 1}"
        )
