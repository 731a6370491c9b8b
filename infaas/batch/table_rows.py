"""Rows of a table in the JSON of records: plain, or in the envelopes of Kafka Connect and Debezium.

| value of a record | row |
|---|---|
| null | deleted; with a key this is a tombstone of Kafka |
| `{"schema": ..., "payload": P}` | what P says; Kafka Connect's converter writes this with `schemas.enable` |
| `{"op": "c", "before": ..., "after": A, ...}` | A; Debezium writes `c`, `r`, `u` for created, read, updated |
| `{"op": "d", "before": ..., "after": null, ...}` | deleted |
| `{"id": 7, ..., "__deleted": "true"}` | deleted; Debezium's `ExtractNewRecordState` writes this with `rewrite` |
| any other object, or an object that has an input of the task itself | the object |
| a bare value, of a task with one input | the value |

Fields stay undecoded, so that they are written as they were read: a number keeps all of its digits.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from infaas.batch.formats.json_lines import row_values
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

_PAYLOAD: Final = "payload"
_CONNECT: Final = frozenset({"schema", _PAYLOAD})
_OPERATION: Final = "op"
_AFTER: Final = "after"
_PARTS: Final = frozenset({"before", _AFTER, "source"})
"""Fields of a Debezium change, besides its operation, of which each change has one."""
_WRITES: Final = frozenset({"c", "r", "u"})
_DELETE: Final = "d"
_DELETED: Final = "__deleted"
_TRUE: Final = frozenset({b"true", b'"true"'})
_NULL: Final = b"null"
_LEFT_OUT: Final = b'"__debezium_unavailable_value"'
"""Debezium writes this for a long column of Postgres that an update did not change."""


class TableRow(NamedTuple):
    """A row with its values undecoded."""

    values: Mapping[str, msgspec.Raw]
    """Values by name, inputs of the task and others."""
    fields: Mapping[str, msgspec.Raw]
    """Values of the row's object; none if the row is a bare value."""


def read_row(value: bytes, inputs: Sequence[TensorSpec]) -> TableRow | None:
    """Return the row in the JSON of a record; None if the record says that the row is deleted.

    Raises:
        InvalidRequest: there is no row.
    """
    try:
        value.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("the JSON is not UTF-8") from None
    row = _object(value, inputs)
    if frozenset(row.fields) == _CONNECT and not _has_input(row, inputs):
        payload = bytes(row.fields[_PAYLOAD])
        if payload == _NULL:
            return None
        row = _object(payload, inputs)
    if _OPERATION in row.fields and not row.fields.keys().isdisjoint(_PARTS) and not _has_input(row, inputs):
        return _after(row.fields, inputs)
    return None if bytes(row.fields.get(_DELETED, b"")) in _TRUE else _complete(row, inputs)


def _complete(row: TableRow, inputs: Sequence[TensorSpec]) -> TableRow:
    """Return the row; raises `InvalidRequest` if Debezium has left out an input."""
    for spec in inputs:
        if bytes(row.fields.get(spec.name, b"")) == _LEFT_OUT:
            raise InvalidRequest(
                f"Debezium left out {spec.name!r}, which did not change: set the table's REPLICA IDENTITY to FULL"
            )
    return row


def _after(change: Mapping[str, msgspec.Raw], inputs: Sequence[TensorSpec]) -> TableRow | None:
    """Return the row after a Debezium change; None if the change deletes it."""
    operation = bytes(change[_OPERATION]).decode().strip('"')
    if operation == _DELETE:
        return None
    if operation not in _WRITES:
        raise InvalidRequest(f"a Debezium change of the operation {operation[:20]!r} has no row")
    after = bytes(change.get(_AFTER, _NULL))
    if not after.startswith(b"{"):
        raise InvalidRequest(f"a Debezium change of the operation {operation!r} needs an object {_AFTER!r}")
    return _complete(_object(after, inputs), inputs)


def _object(value: bytes, inputs: Sequence[TensorSpec]) -> TableRow:
    values = row_values(value, inputs)
    return TableRow(values, values if value.lstrip().startswith(b"{") else {})


def _has_input(row: TableRow, inputs: Sequence[TensorSpec]) -> bool:
    return any(spec.name in row.fields for spec in inputs)
