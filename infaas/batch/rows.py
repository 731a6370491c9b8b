"""Rows of a batch job, as read and as answered, and the protocol of their source.

A chunk is sent as one query, or as several if its rows differ in shape. A row that cannot be read, or on which the
model fails, becomes a failed row with a reason and does not affect other rows.

A `SourcePosition` is the position of a reader in its own terms: rows and bytes of a file, or offsets of a topic's
partitions. It is stored in checkpoints as JSON and is only interpreted by the reader that made it.
"""

import heapq
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidRequest, QueryError
from schemas.tensors import BYTES, Array

SourcePosition: TypeAlias = dict[str, int | str]
"""Position of a reader."""
Numbers: TypeAlias = NDArray[np.int64]
"""Row numbers in ascending order; the first row of a job has number 0."""


class FailedRow(NamedTuple):
    """A row without an answer."""

    number: int
    code: str
    """Error code, see `ErrorCode`."""
    reason: str
    id: object = None


class InputRows(msgspec.Struct, frozen=True, eq=False):
    """Rows of one shape, as arrays by input, for one query."""

    numbers: Numbers
    inputs: Mapping[str, Array]
    ids: Sequence[object] = ()
    """Identifier of each row in its source, for example a file name; empty if the source has none."""

    def __len__(self) -> int:
        return len(self.numbers)

    def slice(self, start: int, stop: int) -> "InputRows":
        """Return the rows from `start` to `stop`, exclusive."""
        some = {name: array[start:stop] for name, array in self.inputs.items()}
        return InputRows(self.numbers[start:stop], some, self.ids[start:stop])


class OutputRows(msgspec.Struct, frozen=True, eq=False):
    """Rows answered by one query, as arrays by output."""

    numbers: Numbers
    outputs: Mapping[str, Array]
    ids: Sequence[object] = ()
    variant: str = ""

    def __len__(self) -> int:
        return len(self.numbers)


class Chunk(msgspec.Struct, frozen=True, eq=False):
    """Rows that were read together."""

    rows: tuple[InputRows, ...]
    end: SourcePosition
    """Position of the source after these rows."""
    unreadable: tuple[FailedRow, ...] = ()

    @property
    def size(self) -> int:
        """Number of rows, including unreadable ones."""
        return sum(map(len, self.rows)) + len(self.unreadable)


class ChunkResult(msgspec.Struct, frozen=True, eq=False):
    """Results of a chunk."""

    answered: tuple[OutputRows, ...] = ()
    failed: tuple[FailedRow, ...] = ()
    """Failed rows by ascending number."""
    end: SourcePosition = {}
    """Position of the source after this chunk."""
    cost: float = 0.0
    """Cost of the chunk's queries in USD."""

    @property
    def size(self) -> int:
        """Number of rows, including failed ones."""
        return sum(map(len, self.answered)) + len(self.failed)

    def in_order(self) -> Iterator["AnsweredRow"]:
        """Return an iterator over the answered rows, by ascending number."""
        if len(self.answered) == 1:
            return _each(self.answered[0])
        return heapq.merge(*map(_each, self.answered), key=_number)


class AnsweredRow(NamedTuple):
    """One answered row with its outputs."""

    number: int
    outputs: dict[str, Any]
    id: object = None
    variant: str = ""


_number: Final = attrgetter("number")


def _each(rows: OutputRows) -> Iterator[AnsweredRow]:
    for index, number in enumerate(rows.numbers.tolist()):
        outputs = {name: array[index] for name, array in rows.outputs.items()}
        yield AnsweredRow(number, outputs, rows.ids[index] if rows.ids else None, rows.variant)


def failed_row(number: int, error: QueryError, row_id: object = None) -> FailedRow:
    """Return the failed row of an error."""
    return FailedRow(number, error.code.value, str(error), row_id)


CHUNK_BYTES: Final = 4 << 20
"""Maximum size of a chunk's inputs in bytes, unless a single row is larger."""


class ReadRow(NamedTuple):
    """A row as read: its inputs, whose first axis has length `rows`, or its error."""

    number: int
    inputs: Mapping[str, Array] | InvalidRequest
    size: int
    """Approximate size in bytes."""
    end: SourcePosition
    """Position of the source after this row."""
    id: object = None
    rows: int = 1
    """Number of rows in the inputs, if a record with one number holds several."""


def in_chunks(rows: Iterable[ReadRow], size: int) -> Iterator[Chunk]:
    """Yield chunks of at most `size` rows and `CHUNK_BYTES` each; the chunks depend only on the rows and `size`."""
    held: list[ReadRow] = []
    held_bytes = 0
    for row in rows:
        if held and (len(held) == size or held_bytes + row.size > CHUNK_BYTES):
            yield chunk_of(held)
            held, held_bytes = [], 0
        held.append(row)
        held_bytes += row.size
    if held:
        yield chunk_of(held)


def chunk_of(rows: Sequence[ReadRow]) -> Chunk:
    """Combine one or more rows to a chunk."""
    shapes: dict[object, list[ReadRow]] = {}
    unreadable: list[FailedRow] = []
    for row in rows:
        if isinstance(row.inputs, InvalidRequest):
            unreadable.append(failed_row(row.number, row.inputs, row.id))
        else:
            shapes.setdefault(_shape_of(row.inputs), []).append(row)
    return Chunk(tuple(map(_input_rows, shapes.values())), rows[-1].end, tuple(unreadable))


def _shape_of(inputs: Mapping[str, Array]) -> object:
    """Return the names, types and row shapes of inputs; rows of equal shape fit in one query."""
    return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()))


def size_of(inputs: Mapping[str, Array]) -> int:
    """Return the size of a row's inputs in bytes; for texts and files their content, not numpy's references."""
    return sum(_held(array) if array.dtype == BYTES else array.nbytes for array in inputs.values())


def _held(array: Array) -> int:
    # arrays made by a program may hold other objects, too
    return sum(len(item) for item in array.flat if isinstance(item, (bytes, str)))


def _input_rows(rows: Sequence[ReadRow]) -> InputRows:
    numbers = np.repeat(np.array([row.number for row in rows], np.int64), [row.rows for row in rows])
    each = [row.inputs for row in rows if not isinstance(row.inputs, InvalidRequest)]
    inputs = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    named = any(row.id is not None for row in rows)
    ids = [row.id for row in rows for _ in range(row.rows)] if named else ()
    return InputRows(numbers, inputs, ids)


class RowSource(Protocol):
    """Source of rows. It holds at most one chunk besides the rows already handed out."""

    @property
    def name(self) -> str:
        """Name for people."""
        ...

    @property
    def total(self) -> int | None:
        """Number of all rows; None if it is unknown before the end."""
        ...

    def fingerprint(self) -> str:
        """Return a text that changes with the rows, so that a job is not resumed with other rows."""
        ...

    def chunks(self, begin: SourcePosition | None, size: int) -> AsyncGenerator[Chunk]:
        """Yield chunks of at most `size` rows from `begin`, the `end` of an earlier chunk; None: from the start.

        The same rows must form the same chunks from any position: the rows of a chunk are computed together, and
        batching may change the last bit of an answer. So all chunks of a file have `size` rows, except the last.

        Raises:
            OperatorError: the source cannot be read; the message suggests a remedy.
        """
        ...
