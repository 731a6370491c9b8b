"""Makes chunks of rows that are read one by one: those of one shape together, as arrays."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from infaas.batch.rows import Chunk, FailedRow, InputRows, Marks, failed_row
from schemas.errors import InvalidRequest
from schemas.tensors import BYTES, Array

CHUNK_BYTES: Final = 4 << 20
"""Bytes of a chunk's inputs at most, unless a single row has more."""


class ReadRow(NamedTuple):
    """A row as it was read: its inputs, each with a first axis of its `rows`, or what is wrong with it."""

    number: int
    inputs: Mapping[str, Array] | InvalidRequest
    size: int
    """Bytes that it has about."""
    end: Marks
    """Where the source goes on after it."""
    id: object = None
    rows: int = 1
    """Rows that its inputs have, where it is several under one number."""


def in_chunks(rows: Iterable[ReadRow], size: int) -> Iterator[Chunk]:
    """Make chunks of at most `size` rows and `CHUNK_BYTES` each: the same ones from wherever it begins."""
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
    """Make one chunk of rows, at least one."""
    shapes: dict[object, list[ReadRow]] = {}
    unreadable: list[FailedRow] = []
    for row in rows:
        if isinstance(row.inputs, InvalidRequest):
            unreadable.append(failed_row(row.number, row.inputs, row.id))
        else:
            shapes.setdefault(_shape_of(row.inputs), []).append(row)
    return Chunk(tuple(map(_input_rows, shapes.values())), rows[-1].end, tuple(unreadable))


def _shape_of(inputs: Mapping[str, Array]) -> object:
    """What inputs must have in common to be asked for in one query: names, types, and the shape of a row."""
    return tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()))


def size_of(inputs: Mapping[str, Array]) -> int:
    """Bytes of the inputs of a row; of texts and files what they hold, where numpy counts the references to them."""
    return sum(_held(array) if array.dtype == BYTES else array.nbytes for array in inputs.values())


def _held(array: Array) -> int:
    # an array that a program made may hold anything else, too
    return sum(len(item) for item in array.flat if isinstance(item, (bytes, str)))


def _input_rows(rows: Sequence[ReadRow]) -> InputRows:
    numbers = np.repeat(np.array([row.number for row in rows], np.int64), [row.rows for row in rows])
    each = [row.inputs for row in rows if not isinstance(row.inputs, InvalidRequest)]
    inputs = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
    named = any(row.id is not None for row in rows)
    ids = [row.id for row in rows for _ in range(row.rows)] if named else ()
    return InputRows(numbers, inputs, ids)
