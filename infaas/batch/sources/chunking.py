"""Chunks of rows that are read one by one; rows of the same shape are combined to arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from infaas.batch.rows import Chunk, FailedRow, InputRows, SourcePosition, failed_row
from schemas.errors import InvalidRequest
from schemas.tensors import BYTES, Array

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
