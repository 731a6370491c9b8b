"""Rows on their way through a batch job: as they were read, and as they were answered.

A chunk is what goes in one query, or a few where its rows are of different shapes. A row that cannot be read, or that
the model fails on, is a failed row with a reason, and costs no other row anything.

`Marks` say how far somebody has come, in words of its own: a file's reader in rows and bytes, a topic's in offsets of
partitions. They are written into checkpoints as JSON and only ever read by whoever made them.
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

Marks: TypeAlias = dict[str, int | str]
"""How far somebody has come."""
Numbers: TypeAlias = NDArray[np.int64]
"""Numbers of rows, ascending; a job's first row is 0."""


class FailedRow(NamedTuple):
    """A row without an answer."""

    number: int
    code: str
    """An error code, as of `ErrorCode`."""
    reason: str
    id: object = None


class InputRows(msgspec.Struct, frozen=True, eq=False):
    """Rows of one shape, as arrays by input: what one query can hold."""

    numbers: Numbers
    inputs: Mapping[str, Array]
    ids: Sequence[object] = ()
    """What a source calls each row, e.g. the name of its file; empty: nothing."""

    def __len__(self) -> int:
        return len(self.numbers)

    def slice(self, start: int, stop: int) -> "InputRows":
        """Return some of the rows."""
        some = {name: array[start:stop] for name, array in self.inputs.items()}
        return InputRows(self.numbers[start:stop], some, self.ids[start:stop])


class OutputRows(msgspec.Struct, frozen=True, eq=False):
    """Rows that were answered together, as arrays by output."""

    numbers: Numbers
    outputs: Mapping[str, Array]
    ids: Sequence[object] = ()
    variant: str = ""

    def __len__(self) -> int:
        return len(self.numbers)


class Chunk(msgspec.Struct, frozen=True, eq=False):
    """Rows that were read together."""

    rows: tuple[InputRows, ...]
    end: Marks
    """Where the source goes on after them."""
    unreadable: tuple[FailedRow, ...] = ()

    @property
    def size(self) -> int:
        """Number of its rows."""
        return sum(map(len, self.rows)) + len(self.unreadable)


class ChunkResult(msgspec.Struct, frozen=True, eq=False):
    """What became of a chunk."""

    answered: tuple[OutputRows, ...]
    failed: tuple[FailedRow, ...]
    """By their numbers."""
    end: Marks
    """Where the source goes on after it."""
    cost: float = 0.0
    """USD that its queries cost."""

    @property
    def size(self) -> int:
        """Number of its rows."""
        return sum(map(len, self.answered)) + len(self.failed)

    def in_order(self) -> Iterator["AnsweredRow"]:
        """Walk over the rows that were answered, by their numbers."""
        if len(self.answered) == 1:
            return _each(self.answered[0])
        return heapq.merge(*map(_each, self.answered), key=_number)


class AnsweredRow(NamedTuple):
    """A row with its outputs."""

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
    """A row that failed with this error."""
    return FailedRow(number, error.code.value, str(error), row_id)
