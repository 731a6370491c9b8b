"""Records of a partition as a chunk of rows, and their outcomes.

The value of a record is one of
* a request of the Open Inference Protocol, JSON or binary according to its headers; its answer is a response;
* a single text or file, if the task accepts it and the `content-type` says so; or
* a row as in a JSON Lines file, or in an envelope (`table_rows`). The answer is the row's object with a value for each
  output, or with these alone, as for texts and files. A row that is deleted has no answer: its record is passed on.

Rows of the same shape form one query, whatever their format. A record that is a request of several rows becomes several
rows with the same number, and fails as a whole.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import orjson

from broker.kafka.types import Record
from infaas.batch.formats.json_lines import encodable, row_inputs
from infaas.batch.rows import Chunk, ChunkResult, FailedRow, ReadRow, chunk_of
from infaas.batch.table_rows import read_row
from schemas import headers as h
from schemas.errors import ErrorCode, InvalidRequest
from schemas.oip import EncodedMessage, InferRequest, decode_request, encode_response
from schemas.rows.catalog import TensorSpec
from schemas.signature import JSON, is_plain
from schemas.tensors import Array

_INPUTS: Final = "inputs"
_IN_ROW: Final = "outputs."
"""Prefix of an output whose name is that of a field of the row."""
_OBJECTS: Final = re.compile(rb"\s*\[\s*\{")


class _Head(msgspec.Struct):
    inputs: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


_head: Final = msgspec.json.Decoder(_Head)


class RecordQuery(NamedTuple):
    """Query of one record."""

    id: str
    inputs: Mapping[str, Array]
    """Arrays by input, all with the same number of rows."""
    request: InferRequest | None
    """The decoded request; None if the record is a row, a text or a file."""
    fields: Mapping[str, msgspec.Raw] = {}
    """Fields of the row, which its answer repeats."""

    @property
    def rows(self) -> int:
        """Number of rows of each input."""
        return len(next(iter(self.inputs.values())))


def record_id(record: Record) -> str:
    """Return the id of a record's answer: its header `infaas-id`, else its topic, partition and offset."""
    named = next((value for name, value in record.headers if name == h.ID and value), None)
    return named.decode(errors="replace") if named else f"{record.topic}-{record.partition}-{record.offset}"


def read_query(record: Record, signature: Sequence[TensorSpec]) -> RecordQuery | None:
    """Decode the query of a record for a task with these inputs; None if the record says that a row is deleted.

    Raises:
        InvalidRequest: the record is not a valid query.
    """
    if record.value is None:
        return None
    value, fields = record.value, _fields(record)
    length = fields.get(h.JSON_LENGTH)
    if length is not None and not length.isdecimal():
        raise InvalidRequest(f"{h.JSON_LENGTH} is a number of bytes, not {length[:20]!r}")
    plain = length is None and is_plain(fields.get(h.CONTENT_TYPE, ""), signature)
    if not plain and length is None and not _is_request(value, signature):
        row = read_row(value, signature)
        if row is None:
            return None
        return RecordQuery(record_id(record), row_inputs(row.values, signature), None, row.fields)
    request = decode_request(value, None if length is None else int(length), signature, plain=plain)
    if len({array.shape[:1] for array in request.inputs.values()} - {()}) != 1 or not all(
        array.ndim and len(array) for array in request.inputs.values()
    ):
        raise InvalidRequest("the inputs have different numbers of rows, or none")
    return RecordQuery(request.id or record_id(record), request.inputs, None if plain else request)


def write_answer(query: RecordQuery, outputs: Mapping[str, Array], variant: str) -> EncodedMessage:
    """Encode the answer to a query.

    Raises:
        InvalidRequest: a requested output does not exist, or has no JSON form or no name besides the row's fields.
    """
    request = query.request
    if request is None:
        answer = {name: encodable(array)[0] for name, array in outputs.items()}
        row = _row_with_answer(query.fields, answer) if query.fields else answer
        return EncodedMessage(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY), None, JSON)
    return encode_response(variant, query.id, outputs, wanted=request.outputs, binary=request.binary_output)


def _row_with_answer(fields: Mapping[str, msgspec.Raw], answer: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {name: orjson.Fragment(bytes(raw)) for name, raw in fields.items()}
    for output, value in answer.items():
        name = f"{_IN_ROW}{output}" if output in fields else output
        if name in row:
            raise InvalidRequest(f"the row has fields {output!r} and {name!r}: no name is left for the output")
        row[name] = value
    return row


def _fields(record: Record) -> dict[str, str]:
    try:
        return h.as_text(record.headers)
    except UnicodeError:
        raise InvalidRequest("a header of the record is not UTF-8") from None


def _is_request(value: bytes, signature: Sequence[TensorSpec]) -> bool:
    """Return true if JSON is a request, not a row: `inputs` is a list of objects, and no input has that name."""
    if any(spec.name == _INPUTS for spec in signature):
        return False
    try:
        return _OBJECTS.match(_head.decode(value).inputs) is not None
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return False  # reported when the value is read as a row


class AnsweredRecord(NamedTuple):
    """A record with its answer."""

    record: Record
    answer: EncodedMessage
    variant: str


class FailedRecord(NamedTuple):
    """A record that failed, with the reason."""

    record: Record
    code: str
    reason: str


class DeletedRow(NamedTuple):
    """A record that says that the row of its key is deleted."""

    record: Record


Outcome: TypeAlias = AnsweredRecord | FailedRecord | DeletedRow


class RecordChunk:
    """Consecutive records of a partition; `next_offset` is the offset after them.

    Args:
        answer_only: answers do not repeat the fields of their rows.
    """

    def __init__(
        self, records: Sequence[Record], next_offset: int, signature: Sequence[TensorSpec], *, answer_only: bool = False
    ) -> None:
        self.records = records
        self.next_offset = next_offset
        queries = [_read(record, signature) for record in records]
        self._queries = [
            query._replace(fields={}) if answer_only and isinstance(query, RecordQuery) else query for query in queries
        ]

    def chunk(self) -> Chunk:
        """Return the rows to be answered, grouped by shape; a row's number is the index of its record."""
        rows = [
            ReadRow(number, query, 0, {})
            if isinstance(query, InvalidRequest)
            else ReadRow(number, query.inputs, 0, {}, rows=query.rows)
            for number, query in enumerate(self._queries)
            if query is not None
        ]
        return chunk_of(rows) if rows else Chunk((), {})

    def outcomes(self, result: ChunkResult) -> list[Outcome]:
        """Return the outcome of each record, in order."""
        failed = {row.number: row for row in reversed(result.failed)}
        parts = defaultdict[int, list[tuple[dict[str, Array], str]]](list)
        for rows in result.answered:
            numbers, starts, counts = np.unique(rows.numbers, return_index=True, return_counts=True)
            for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
                some = {name: array[start : start + count] for name, array in rows.outputs.items()}
                parts[number].append((some, rows.variant))
        return [self._outcome(number, failed.get(number), parts[number]) for number in range(len(self.records))]

    def _outcome(self, number: int, failed: FailedRow | None, parts: list[tuple[dict[str, Array], str]]) -> Outcome:
        record, query = self.records[number], self._queries[number]
        if query is None:
            return DeletedRow(record)
        if failed is not None or isinstance(query, InvalidRequest):
            code, reason = (failed.code, failed.reason) if failed else (ErrorCode.INVALID_REQUEST, str(query))
            return FailedRecord(record, code, reason)
        outputs, variant = parts[0]
        if len(parts) > 1:  # rows of one request were sent separately, because other rows of the query failed
            outputs = {name: np.concatenate([some[name] for some, _ in parts]) for name in outputs}
        try:
            return AnsweredRecord(record, write_answer(query, outputs, variant), variant)
        except InvalidRequest as error:
            return FailedRecord(record, error.code, str(error))


def _read(record: Record, signature: Sequence[TensorSpec]) -> RecordQuery | InvalidRequest | None:
    try:
        query = read_query(record, signature)
    except InvalidRequest as error:
        return error
    if query is None and record.key is None:
        return InvalidRequest("the record says that a row is deleted, but not which one: it has no key")
    return query
