"""A record as a query of a task, and its answer in the same format.

The value of a record is one of
* a request of the Open Inference Protocol, JSON or binary according to its headers; its answer is a response;
* a single text or file, if the task accepts it and the `content-type` says so; or
* a row as in a JSON Lines file. The answer to these two is a JSON object with one value per output.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import orjson

from broker.kafka_types import Record
from infaas.batch.sinks.json_output import encodable
from infaas.batch.sources.json_row import row_inputs, row_values
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.oip import JSON, EncodedMessage, InferRequest, decode_request, encode_response, is_plain
from schemas.rows.catalog import TensorSpec
from schemas.tensors import Array

_INPUTS: Final = "inputs"
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

    @property
    def rows(self) -> int:
        """Number of rows of each input."""
        return len(next(iter(self.inputs.values())))


def record_id(record: Record) -> str:
    """Return the id of a record's answer: its header `infaas-id`, else its topic, partition and offset."""
    named = next((value for name, value in record.headers if name == h.ID and value), None)
    return named.decode(errors="replace") if named else f"{record.topic}-{record.partition}-{record.offset}"


def read_query(record: Record, signature: Sequence[TensorSpec]) -> RecordQuery:
    """Decode the query of a record for a task with these inputs.

    Raises:
        InvalidRequest: the record is not a valid query.
    """
    value, fields = record.value or b"", _fields(record)
    length = fields.get(h.JSON_LENGTH)
    if length is not None and not length.isdecimal():
        raise InvalidRequest(f"{h.JSON_LENGTH} is a number of bytes, not {length[:20]!r}")
    plain = length is None and is_plain(fields.get(h.CONTENT_TYPE, ""), signature)
    if not plain and length is None and not _is_request(value, signature):
        return RecordQuery(record_id(record), row_inputs(row_values(value, signature), signature), None)
    request = decode_request(value, None if length is None else int(length), signature, plain=plain)
    if len({array.shape[:1] for array in request.inputs.values()} - {()}) != 1 or not all(
        array.ndim and len(array) for array in request.inputs.values()
    ):
        raise InvalidRequest("the inputs have different numbers of rows, or none")
    return RecordQuery(request.id or record_id(record), request.inputs, None if plain else request)


def write_answer(query: RecordQuery, outputs: Mapping[str, Array], variant: str) -> EncodedMessage:
    """Encode the answer to a query.

    Raises:
        InvalidRequest: a requested output does not exist, or has no JSON form.
    """
    request = query.request
    if request is None:
        row = {name: encodable(array)[0] for name, array in outputs.items()}
        return EncodedMessage(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY), None, JSON)
    return encode_response(variant, query.id, outputs, wanted=request.outputs, binary=request.binary_output)


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
