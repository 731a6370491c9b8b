"""Decodes a record into work that can be computed, and encodes what was computed as the result's record: pure.

    identify -> decode_query -> stack -> (the model) -> unstack -> PendingQuery.add -> encode_result, or encode_error

Decoding goes in two steps, because a query that says who it is and where its result goes can be told what is wrong with
the rest of it, and one that does not cannot: it is a dead letter.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from numpy.typing import NDArray

from broker.kafka_types import Record
from broker.outbox import Message
from runtimes.padding import row_size, size_bucket, stack_padded
from schemas import headers as h
from schemas.casts import cast_inputs
from schemas.classification import best_classes
from schemas.cloudevents import unwrap
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.latency import LatencyModel
from schemas.load_classes import COARSEST, ClassKey, class_key
from schemas.needs import Mode
from schemas.oip import InferRequest, decode_request, encode_response, is_plain
from schemas.query import MAX_ID, parse_query
from schemas.result import OK, error_value
from schemas.rows.processing import DecodeImage
from schemas.topics import SHADOWS, may_reply_to, results_topic
from workers.batch_queue import NO_DEADLINE
from workers.input_rows import Arrays, join_outputs, one_for_each, rows
from workers.model import ServableModel, check_inputs

_COPIED = (h.TASK_QUEUE_NS, h.PREDICTED_NS, h.ACCURACY, h.COST, h.EXPLANATION, *h.RETURNED)
"""Names of the headers of a query that its result carries too."""
_EVENT = "application/cloudevents"
_BYTES_A_TOKEN = 4
"""Bytes of a text to a token, about."""


class Undecodable(Exception):
    """Error of a record that names no query, so that nobody can be told."""


class PendingQuery:
    """A query taken from the variant's topic. Decoding fills it; computing fills `outputs`."""

    __slots__ = (
        "answered",
        "batch",
        "claimed",
        "class_key",
        "class_names",
        "compute_ns",
        "copied",
        "deadline_s",
        "extra_s",
        "fields",
        "id",
        "large_inputs",
        "model_name",
        "model_version",
        "outputs",
        "parts_left",
        "record",
        "reply_stream",
        "reply_to",
        "request",
        "sent_ns",
        "shape",
        "started_ns",
    )  # fmt: skip

    def __init__(self, record: Record, fields: dict[str, str], query_id: str, task: str) -> None:
        reply_to = fields.get(h.REPLY_TO)
        self.record = record
        self.fields = fields
        self.id = query_id
        self.reply_to = reply_to if reply_to and _may_be_told(reply_to, fields.get(h.TENANT)) else results_topic(task)
        self.reply_stream = fields.get(h.REPLY_STREAM, "")
        self.copied = h.COPIED in fields
        """Whether its result is to be compared with that of a copy."""
        self.model_name, _, self.model_version = (fields.get(h.TARGET) or task).partition("@")
        self.sent_ns = 0
        """When the selector sent it, ns of this process's monotonic clock."""
        self.deadline_s = NO_DEADLINE
        """Seconds of the same clock."""
        self.class_key: ClassKey = COARSEST
        """Load class of the query, by which its answer is counted."""
        self.request: InferRequest | None = None
        self.class_names: tuple[str, ...] = ()
        self.batch = 0
        """Number of inputs that it holds; 0 until that is known."""
        self.claimed = 0
        """Number of inputs that its header says it holds."""
        self.shape: Hashable = None
        self.extra_s = 0.0
        self.answered = False
        """Whether its result is on its way: what is left of it need not be computed."""
        self.started_ns = 0
        """Start of its first batch, ns of the same clock."""
        self.compute_ns = 0
        """Nanoseconds that the batches took in which it was computed."""
        self.large_inputs = 0
        """Inputs of large queries that waited when it came, its own included."""
        self.parts_left = 0
        """Number of parts that are not computed yet."""
        self.outputs: list[Arrays] = []
        """Outputs of each part."""

    def add(self, number: int, outputs: Arrays, started_ns: int, compute_ns: int) -> bool:
        """Take the outputs of a part that was computed; returns whether it was the last."""
        self.started_ns = self.started_ns or started_ns
        self.compute_ns += compute_ns
        self.outputs[number] = outputs
        self.parts_left -= 1
        return not self.parts_left

    @property
    def unfounded(self) -> int:
        """Number of inputs that its header claims beyond those it holds: selectors have counted them all the same."""
        return max(self.claimed - max(self.batch, 1), 0)

    @property
    def is_large(self) -> bool:
        """Whether it is computed in pieces."""
        return len(self.outputs) > 1

    @property
    def queue_ns(self) -> int:
        """Nanoseconds between the selector's send and the start of the computation."""
        return max(self.started_ns - self.sent_ns, 0)


def _may_be_told(topic: str, tenant: str | None) -> bool:
    """Whether a selector has results sent to a topic: where clients may, and for copies where they are compared."""
    return topic == SHADOWS or may_reply_to(topic, tenant)


class QueryPart:
    """Inputs of a query that are computed together: all of them, or a piece of a large query."""

    __slots__ = (
        "allow_late", "deadline_s", "extra_s", "inputs", "number", "offline", "query", "shape", "tensors",
    )  # fmt: skip

    def __init__(
        self, query: PendingQuery, number: int, tensors: Arrays, inputs: int, offline: bool, allow_late: bool
    ) -> None:
        self.query = query
        self.number = number
        self.tensors = tensors
        self.inputs = inputs
        self.shape = query.shape
        self.extra_s = query.extra_s
        self.deadline_s = query.deadline_s
        self.offline = offline
        self.allow_late = allow_late


def identify(record: Record, task: str) -> PendingQuery:
    """Read from a record which query it is and where its result goes.

    Raises:
        Undecodable: the record does not say which query it is.
    """
    try:
        fields = h.as_text(record.headers)
    except UnicodeError:
        fields = {name: value.decode(errors="replace") for name, value in record.headers if value}
    query_id = fields.get(h.ID, "")
    if not query_id or len(query_id) > MAX_ID:
        raise Undecodable(f"header {h.ID} must hold 1 to {MAX_ID} characters")
    return PendingQuery(record, fields, query_id, fields.get(h.TASK) or task)


def decode_query(
    query: PendingQuery, model: ServableModel, offset_ms: float = 0.0, alone: bool = False
) -> list[QueryPart]:
    """Decode the work of a query: its tensors, those of a large query in pieces.

    Args:
        query: as from `identify`; this fills it.
        model: the variant asked.
        offset_ms: the broker's clock, of which the record's times are, less the monotonic clock.
        alone: compute it with no other query in the batch.

    Raises:
        InvalidRequest: its headers or its value are wrong; the message says where.
    """
    fields, value = query.fields, query.record.value or b""
    if fields.get(h.CONTENT_TYPE, "").startswith(_EVENT):
        fields, value = unwrap(fields, value) or (fields, value)
    parsed = parse_query(
        model.variant.task, fields, query.record.timestamp, offset_ms, forwarded=True, owner=fields.get(h.TENANT)
    )
    query.claimed = parsed.batch
    query.sent_ns = int(parsed.sent_ms * 1e6)
    query.class_key = class_key(parsed.needs, _latency_ms(query, parsed.deadline_ms, offset_ms))
    json_length = _json_length(fields)
    plain = json_length is None and is_plain(fields.get(h.CONTENT_TYPE, ""), model.inputs)
    request = decode_request(value, json_length, model.inputs, plain=plain)
    request.inputs.update(cast_inputs(model.inputs, request.inputs))
    query.batch = check_inputs(model.inputs, request.inputs)
    if query.batch != query.claimed:  # it was chosen for, priced and shared out as something else
        raise InvalidRequest(
            f"header {h.BATCH} says that the query holds {query.claimed} inputs, but it holds {query.batch}: "
            "say how many there are (1 if the header is absent)"
        )
    for output in request.outputs:
        if output.name not in model.outputs:
            raise InvalidRequest(f"no output {output.name[:80]!r}; there are {', '.join(model.outputs)}")
    query.request = request
    query.class_names = model.class_names
    query.deadline_s = NO_DEADLINE if parsed.deadline_ms is None else parsed.deadline_ms / 1e3
    query.shape = batch_key(model, request.inputs)
    if model.lengths.varies:
        query.extra_s = model.lengths.extra_s(row_size(request.inputs))
    if alone:
        query.shape = (query.shape, query.record.partition, query.record.offset)
    parts = _split(query, request.inputs, model.latency, parsed.needs.mode is Mode.OFFLINE, parsed.needs.allow_late)
    query.parts_left = len(parts)
    query.outputs = [{}] * len(parts)
    return parts


def batch_key(model: ServableModel, inputs: Mapping[str, NDArray[Any]]) -> Hashable:
    """Key of what may share a batch: inputs of one shape, or of about one size where the model takes them padded."""
    if model.processing is not None:
        if isinstance(model.processing.before, DecodeImage):  # a file's size says nothing of its tensor's
            return None
        (values,) = inputs.values()
        return size_bucket(max(map(len, values.flat)) // _BYTES_A_TOKEN + 1)
    if model.variant.mixes_lengths:
        return size_bucket(row_size(inputs))
    return tuple(inputs[spec.name].shape[1:] for spec in model.inputs)


def _latency_ms(query: PendingQuery, deadline_ms: float | None, offset_ms: float) -> float | None:
    """Milliseconds allowed since the client sent the query: what the selector made of it, by the selector's word."""
    if deadline_ms is None:
        return None
    sent_ns = query.fields.get(h.SENT_NS, "")
    sent_ms = int(sent_ns) / 1e6 - offset_ms if _is_count(sent_ns) else query.sent_ns / 1e6
    return deadline_ms - sent_ms + (_milliseconds(query.fields.get(h.TASK_QUEUE_NS)) or 0.0)


def _json_length(fields: Mapping[str, str]) -> int | None:
    text = fields.get(h.JSON_LENGTH)
    if not text:
        return None
    if not _is_count(text):
        raise InvalidRequest(f"header {h.JSON_LENGTH} must be a number, not {text[:20]!r}")
    return int(text)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _split(
    query: PendingQuery, tensors: Arrays, latency: LatencyModel, offline: bool, allow_late: bool
) -> list[QueryPart]:
    if not latency.is_large(query.batch):
        return [QueryPart(query, 0, tensors, query.batch, offline, allow_late)]
    size = latency.piece_inputs
    return [
        QueryPart(query, number, rows(tensors, start, size), min(size, query.batch - start), offline, allow_late)
        for number, start in enumerate(range(0, query.batch, size))
    ]


def stack(parts: list[QueryPart]) -> Arrays:
    """Stack the inputs of parts into those of a batch, the shorter ones padded."""
    return parts[0].tensors if len(parts) == 1 else stack_padded([part.tensors for part in parts])


def unstack(parts: list[QueryPart], outputs: Mapping[str, NDArray[Any]]) -> list[Arrays]:
    """Split the outputs of a batch into those of each part.

    Raises:
        ValueError: the outputs are not one for each input.
    """
    outputs = one_for_each(sum(part.inputs for part in parts), outputs)
    found: list[Arrays] = []
    start = 0
    for part in parts:
        found.append(rows(outputs, start, part.inputs))
        start += part.inputs
    return found


def encode_result(query: PendingQuery, variant: str, worker: str, *, late: bool = False) -> Message:
    """Encode the result of a query whose parts are all computed; `late`: after its deadline.

    Raises:
        InvalidRequest: an output has no form that was asked for.
        ModelFailed: the outputs are none that the protocol can tell.
    """
    request = query.request
    assert request is not None
    try:
        encoded = encode_response(
            query.model_name,
            request.id or query.id,
            _classified(query, request, join_outputs(query.outputs)),
            _parameters(query, variant, worker) | ({"late": True} if late else {}),
            wanted=request.outputs,
            binary=request.binary_output,
            model_version=query.model_version or None,
        )
    except TypeError as error:
        raise ModelFailed(str(error)) from error
    headers = _headers(query, OK, variant, worker)
    headers.append((h.VARIANT_QUEUE_NS, b"%d" % query.queue_ns))
    headers.append((h.COMPUTE_NS, b"%d" % query.compute_ns))
    headers.append((h.CONTENT_TYPE, encoded.content_type.encode()))
    if late:
        headers.append((h.LATE, b"true"))
    if encoded.json_length is not None:
        headers.append((h.JSON_LENGTH, b"%d" % encoded.json_length))
    copy_to = SHADOWS if query.copied else ""
    return Message(
        query.reply_to, encoded.value, headers, query.id.encode(), status=OK, stream=query.reply_stream, copy_to=copy_to
    )


def _classified(query: PendingQuery, request: InferRequest, outputs: Arrays) -> Arrays:
    """The outputs, with classes in the place of scores where these were asked for."""
    classes = {
        output.name: best_classes(outputs[output.name], output.classes, query.class_names, f"$.outputs[{index}]")
        for index, output in enumerate(request.outputs)
        if output.classes
    }
    return outputs | classes if classes else outputs


def _parameters(query: PendingQuery, variant: str, worker: str) -> dict[str, object]:
    fields = query.fields
    parameters: dict[str, object] = {
        "variant": variant,
        "worker": worker,
        "accuracy": _number(fields.get(h.ACCURACY)),
        "cost": _number(fields.get(h.COST)),
        "predicted_ms": _milliseconds(fields.get(h.PREDICTED_NS)),
        "queue_ms": (_milliseconds(fields.get(h.TASK_QUEUE_NS)) or 0.0) + query.queue_ns / 1e6,
        "compute_ms": query.compute_ns / 1e6,
        "explanation": fields.get(h.EXPLANATION),
    }
    return {name: value for name, value in parameters.items() if value is not None}


def encode_error(query: PendingQuery, error: QueryError, variant: str, worker: str) -> Message:
    """Encode the error result of a query that was not computed."""
    status = error.code.value
    headers = _headers(query, status, variant, worker)
    headers.append((h.CONTENT_TYPE, b"application/json"))
    return Message(
        query.reply_to, error_value(str(error)), headers, query.id.encode(), status=status, stream=query.reply_stream
    )


def _headers(query: PendingQuery, status: str, variant: str, worker: str) -> h.RawHeaders:
    fields = query.fields
    headers = [
        (h.ID, query.id.encode()),
        (h.STATUS, status.encode()),
        (h.VARIANT, variant.encode()),
        (h.WORKER, worker.encode()),
    ]
    headers += [(name, fields[name].encode()) for name in _COPIED if name in fields]
    return headers


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _milliseconds(ns: str | None) -> float | None:
    number = _number(ns)
    return None if number is None else number / 1e6
