"""Tests of `read_row`: rows of a table, plain and in the envelopes of Kafka Connect and Debezium."""

import json
from typing import Any

import pytest

from infaas.batch.table_rows import read_row
from schemas.errors import InvalidRequest
from schemas.rows.catalog import TensorSpec

TEXT = TensorSpec(name="text", datatype="BYTES", shape=(-1,))
ROW = {"id": 7, "text": "good"}
LEFT_OUT = "__debezium_unavailable_value"
SCHEMA = {"type": "struct", "fields": [], "optional": False}


def fields(value: object, *inputs: TensorSpec) -> Any:
    """Return the fields of the row in a value; None if the value deletes the row."""
    row = read_row(json.dumps(value).encode(), inputs or (TEXT,))
    return row and {name: json.loads(bytes(raw)) for name, raw in row.fields.items()}


def change(op: str, after: object = None, before: object = None) -> dict[str, object]:
    return {"before": before, "after": after, "source": {"table": "reviews"}, "op": op, "ts_ms": 1}


@pytest.mark.parametrize(
    "value",
    [
        ROW,
        {"schema": SCHEMA, "payload": ROW},
        change("c", ROW),
        change("r", ROW),
        change("u", ROW, {"id": 7, "text": "bad"}),
        {"schema": SCHEMA, "payload": change("u", ROW)},
        {"op": "c", "after": ROW},
    ],
)
def test_read_row_unwraps_the_row_after_a_change(value: object) -> None:
    assert fields(value) == ROW


@pytest.mark.parametrize(
    "value",
    [
        change("d", None, ROW),
        {"op": "d", "before": ROW},
        {"schema": SCHEMA, "payload": change("d", None, ROW)},
        {"schema": None, "payload": None},
        ROW | {"__deleted": "true"},
        {"id": 7, "text": None, "__deleted": True},
    ],
)
def test_read_row_finds_deletions(value: object) -> None:
    assert fields(value) is None


@pytest.mark.parametrize(
    "row",
    [
        ROW | {"__deleted": "false"},
        ROW | {"op": "d", "after": None, "source": "a shop"},
        {"schema": "public", "payload": "none", "text": "good"},
    ],
)
def test_read_row_keeps_object_with_an_input(row: dict[str, object]) -> None:
    assert fields(row) == row


def test_read_row_keeps_inputs_named_like_an_envelope() -> None:
    payload = TensorSpec(name="payload", datatype="BYTES", shape=(-1,))
    assert fields({"schema": "a", "payload": "b"}, payload) == {"schema": "a", "payload": "b"}


@pytest.mark.parametrize("value", ["good", {"schema": SCHEMA, "payload": "good"}])
def test_read_row_of_bare_value_has_no_fields(value: object) -> None:
    row = read_row(json.dumps(value).encode(), [TEXT])
    assert row is not None
    assert (bytes(row.values["text"]), row.fields) == (b'"good"', {})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (change("t"), "operation 't' has no row"),
        (change("u"), "'u' needs an object 'after'"),
        (change("c", [1]), "'c' needs an object 'after'"),
    ],
)
def test_read_row_refuses_changes_without_row(value: object, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        fields(value)


@pytest.mark.parametrize("is_change", [True, False])
def test_read_row_refuses_input_that_was_left_out(is_change: bool) -> None:
    row, other = {"id": 7, "text": LEFT_OUT}, ROW | {"picture": LEFT_OUT}
    with pytest.raises(InvalidRequest, match="REPLICA IDENTITY"):
        fields(change("u", row) if is_change else row)
    assert fields(change("u", other) if is_change else other) == other


def test_read_row_refuses_other_bytes() -> None:
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_row(b'{"text": "good", "name": "\xff"}', [TEXT])
    with pytest.raises(InvalidRequest, match="not a JSON object"):
        read_row(b"", [TEXT, TEXT])
