"""Codec of queries: decodes a record into work, and encodes outputs as the result record. Pure.

    identify -> decode_query -> stack -> (the model) -> unstack -> PendingQuery.add -> encode_result, or encode_error

Decoding has two steps. A record that names its query and reply topic is answered with an error if the rest is wrong. A
record that does not is a dead letter, because nobody can be answered.
"""

from collections.abc import Hashable, Mapping
from typing import Any

from numpy.typing import NDArray

from broker.delivery.outbox import Message
from broker.kafka.types import Record
from runtimes.padding import axis_sizes, cut_to, row_size, size_bucket, stack_padded
from runtimes.processing.outputs import LENGTHS, SEQUENCE
from schemas import headers as h
from schemas.cloudevents import unwrap
from schemas.errors import InvalidRequest, ModelFailed, QueryError
from schemas.latency import LatencyModel
from schemas.load_classes import class_key
from schemas.oip import InferRequest, decode_request, encode_response
from schemas.query import MAX_ID, Mode, Query, parse_query
from schemas.result import OK, error_value
from schemas.rows.catalog import DecodeImage
from schemas.signature import is_plain
from schemas.topics import SHADOWS
from workers.conversion import best_classes, cast_inputs, parameter_values
from workers.serving.model import ServableModel, check_inputs
from workers.serving.pending_query import Arrays, PendingQuery, QueryPart, join_outputs, one_for_each, rows
from workers.slots.batch_queue import NO_DEADLINE

_COPIED = (h.TASK_QUEUE_NS, h.PREDICTED_NS, h.ACCURACY, h.COST, h.EXPLANATION, *h.RETURNED)
"""Headers of a query that are copied to its result."""
_EVENT = "application/cloudevents"
_BYTES_A_TOKEN = 4
"""Approximate bytes of text per token."""


class Undecodable(Exception):
    """Error of a record that names no query, so that no answer can be sent."""


def identify(record: Record, task: str) -> PendingQuery:
    """Read the id and the reply topic of a query from its record.

    Raises:
        Undecodable: the record has no valid query id.
    """
    try:
        fields = h.as_text(record.headers)
    except UnicodeError:
        fields = {name: value.decode(errors="replace") for name, value in record.headers if value}
    h.expand_choice(fields)
    query_id = fields.get(h.ID, "")
    if not query_id or len(query_id) > MAX_ID:
        raise Undecodable(f"header {h.ID} must hold 1 to {MAX_ID} characters")
    return PendingQuery(record, fields, query_id, fields.get(h.TASK) or task)


def decode_query(
    query: PendingQuery, model: ServableModel, offset_ms: float = 0.0, alone: bool = False
) -> list[QueryPart]:
    """Decode the work of a query: all of its tensors, or the pieces of a large query.

    Args:
        query: as returned by `identify`; this function fills its fields.
        model: the variant that computes it.
        offset_ms: the broker's clock, which gives the record's times, minus the monotonic clock.
        alone: do not batch it with other queries.

    Raises:
        InvalidRequest: a header or the value is wrong; the message names it.
    """
    parsed, request = read_request(query, model, offset_ms)
    query.shape = batch_key(model, request.inputs)
    if model.lengths.varies:
        query.extra_s = model.lengths.extra_s(row_size(request.inputs))
    if alone:
        query.shape = (query.shape, query.record.partition, query.record.offset)
    parts = _split(query, request.inputs, model.latency, parsed.needs.mode is Mode.OFFLINE, parsed.needs.allow_late)
    query.parts_left = len(parts)
    query.outputs = [{}] * len(parts)
    return parts


def read_request(query: PendingQuery, model: ServableModel, offset_ms: float) -> tuple[Query, InferRequest]:
    """Read the headers and the tensors of a query, and check them against the model.

    The arguments and errors are those of `decode_query`.
    """
    fields, value = query.fields, query.record.value or b""
    if fields.get(h.CONTENT_TYPE, "").startswith(_EVENT):
        fields, value = unwrap(fields, value) or (fields, value)
    parsed = parse_query(
        model.variant.task, fields, query.record.timestamp, offset_ms, forwarded=True, owner=fields.get(h.TENANT)
    )
    query.claimed = parsed.batch
    query.sent_ns = int(parsed.sent_ms * 1e6)
    query.task_queue_ms = _milliseconds(query.fields.get(h.TASK_QUEUE_NS)) or 0.0
    query.class_key = class_key(parsed.needs, _latency_ms(query, parsed.deadline_ms, offset_ms))
    json_length = _json_length(fields)
    plain = json_length is None and is_plain(fields.get(h.CONTENT_TYPE, ""), model.inputs)
    request = decode_request(value, json_length, model.inputs, plain=plain)
    request.inputs.update(parameter_values(model.inputs, request))
    request.inputs.update(cast_inputs(model.inputs, request.inputs))
    query.batch = check_inputs(model.inputs, request.inputs)
    if query.batch != query.claimed:  # the selector chose, priced and rationed by the claimed number
        raise InvalidRequest(
            f"header {h.BATCH} declares {query.claimed} inputs, but the query has {query.batch}: send their number (1 "
            "if the header is absent)"
        )
    for output in request.outputs:
        if output.name not in (known := [spec.name for spec in model.outputs]):
            raise InvalidRequest(f"no output {output.name[:80]!r}; there are {', '.join(known)}")
    query.request = request
    query.signature = model.outputs
    query.class_names = model.class_names
    query.deadline_s = NO_DEADLINE if parsed.deadline_ms is None else parsed.deadline_ms / 1e3
    return parsed, request


def batch_key(model: ServableModel, inputs: Mapping[str, NDArray[Any]]) -> Hashable:
    """Return the key of inputs that may share a batch.

    It is their shape, or a size bucket if the model pads inputs, with the values of parameters.
    """
    if model.processing is not None:
        if isinstance(model.processing.before, DecodeImage):  # a file's size does not tell the size of its tensor
            return None
        (values,) = inputs.values()
        return size_bucket(max(map(len, values.flat)) // _BYTES_A_TOKEN + 1)
    if model.variant.mixes_lengths:
        values = [inputs[spec.name].flat[0].item() for spec in model.inputs if spec.parameter]
        return size_bucket(row_size(inputs)), *values
    return tuple(
        inputs[spec.name].flat[0].item() if spec.parameter else inputs[spec.name].shape[1:] for spec in model.inputs
    )


def _latency_ms(query: PendingQuery, deadline_ms: float | None, offset_ms: float) -> float | None:
    """Return the milliseconds allowed since the client sent the query, as the selector computed them, or None."""
    if deadline_ms is None:
        return None
    sent_ns = query.fields.get(h.SENT_NS, "")
    sent_ms = int(sent_ns) / 1e6 - offset_ms if h.is_count(sent_ns) else query.sent_ns / 1e6
    return deadline_ms - sent_ms + query.task_queue_ms


def _json_length(fields: Mapping[str, str]) -> int | None:
    text = fields.get(h.JSON_LENGTH)
    if not text:
        return None
    if not h.is_count(text):
        raise InvalidRequest(f"header {h.JSON_LENGTH} must be a number, not {text[:20]!r}")
    return int(text)


def _split(
    query: PendingQuery, tensors: Arrays, latency: LatencyModel, offline: bool, allow_late: bool
) -> list[QueryPart]:
    size = latency.piece_inputs if latency.is_large(query.batch) else query.batch
    return [
        QueryPart(
            query,
            number,
            tensors if size == query.batch else rows(tensors, start, size),
            min(size, query.batch - start),
            offline,
            allow_late,
            query.shape,
            query.extra_s,
            query.deadline_s,
        )
        for number, start in enumerate(range(0, query.batch, size))
    ]


def stack(parts: list[QueryPart]) -> Arrays:
    """Stack the inputs of parts into one batch; shorter inputs are padded."""
    return parts[0].tensors if len(parts) == 1 else stack_padded([part.tensors for part in parts])


def unstack(parts: list[QueryPart], outputs: Mapping[str, NDArray[Any]], model: ServableModel) -> list[Arrays]:
    """Split the outputs of a batch into the outputs of each part, without the padding of longer parts.

    Raises:
        ValueError: the number of outputs differs from the number of inputs.
    """
    outputs = one_for_each(sum(part.inputs for part in parts), outputs)
    found: list[Arrays] = []
    start, cuts = 0, len(parts) > 1 and any(spec.axes for spec in model.outputs)
    for part in parts:
        own = rows(outputs, start, part.inputs)
        found.append(_without_padding(own, part, model) if cuts else own)
        start += part.inputs
    return found


def _without_padding(outputs: Arrays, part: QueryPart, model: ServableModel) -> Arrays:
    sizes = axis_sizes(model.inputs, part.tensors)
    if LENGTHS in outputs and model.processing is not None:
        sizes[SEQUENCE] = int(outputs[LENGTHS].max())
    return cut_to(outputs, model.outputs, sizes)


def encode_result(query: PendingQuery, variant: str, worker: str, *, late: bool = False) -> Message:
    """Encode the result of a query whose parts are all computed; `late` marks it as computed after its deadline.

    Raises:
        InvalidRequest: an output cannot have the requested form.
        ModelFailed: the protocol cannot represent the outputs.
    """
    request = query.request
    assert request is not None
    try:
        encoded = encode_response(
            query.model_name,
            request.id or query.id,
            _classified(query, request, join_outputs(query.outputs, query.signature)),
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
    """Return the outputs, with scores replaced by the best classes where the request asks for classes."""
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
        "queue_ms": query.task_queue_ms + query.queue_ns / 1e6,
        "compute_ms": query.compute_ns / 1e6,
        "explanation": fields.get(h.EXPLANATION),
    }
    return {name: value for name, value in parameters.items() if value is not None}


def encode_error(query: PendingQuery, error: QueryError, variant: str, worker: str) -> Message:
    """Encode the error result of a query that was not computed."""
    status = error.code.value
    headers = _headers(query, status, variant, worker)
    headers.append((h.CONTENT_TYPE, b"application/json"))
    if error.reason is not None:
        headers.append((h.REASON, error.reason.encode()))
    value = error_value(str(error), error.reason)
    return Message(query.reply_to, value, headers, query.id.encode(), status=status, stream=query.reply_stream)


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
