"""Rows of a batch job, as read and as answered.

A chunk is sent as one query, or as several if its rows differ in shape. A row that cannot be read, or on which the
model fails, becomes a failed row with a reason and does not affect other rows.

`Marks` are the position of a reader in its own terms: rows and bytes of a file, or offsets of a topic's partitions.
They are stored in checkpoints as JSON and are only interpreted by the reader that made them.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import QueryError
from schemas.tensors import Array

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

    answered: tuple[OutputRows, ...]
    failed: tuple[FailedRow, ...]
    """Failed rows by ascending number."""
    end: SourcePosition
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
