"""From an HTTP request to the headers of a record. The body is the record's value and stays untouched.

A need may stand in the request's `parameters` or in an `infaas-*` HTTP header; the header wins, so that a proxy in
front may set limits. Triton's reserved parameter `timeout` (microseconds) is the latency where no other is given.
"""

import time
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.models import Model
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.oip import Parameter, RequestHead, read_head
from schemas.query import Query, parse_query

_PARAMETERS: Final = {
    "latency_ms": h.LATENCY_MS,
    "min_accuracy": h.MIN_ACCURACY,
    "max_cost": h.MAX_COST,
    "mode": h.MODE,
    "target": h.TARGET,
    "tenant": h.TENANT,
    "allow_late": h.ALLOW_LATE,
    "explain": h.EXPLAIN,
}
_TIMEOUT_US: Final = "timeout"
_PASSED: Final = (
    h.ID,
    h.DEADLINE_MS,
    h.LATENCY_MS,
    h.MIN_ACCURACY,
    h.MAX_COST,
    h.MODE,
    h.TARGET,
    h.TENANT,
    h.ALLOW_LATE,
    h.EXPLAIN,
    h.CONTENT_TYPE,
    h.JSON_LENGTH,
    h.TRACEPARENT,
    h.TRACESTATE,
)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A record ready to be sent, and what the gateway keeps in mind about it."""

    topic: str
    value: bytes
    headers: h.RawHeaders
    query: Query


def make_envelope(model: Model, http: Mapping[str, str], body: bytes, reply_to: str, fallback_id: str) -> Envelope:
    """Check a request and address it.

    Args:
        model: what the path names.
        http: the HTTP headers, a case-insensitive mapping.
        body: the request's body.
        reply_to: the topic on which the gateway reads results.
        fallback_id: the query's id unless the client gives one.

    Raises:
        InvalidRequest: the body or a need is not as it must be; the message says where.
    """
    head = read_head(body, _json_length(http.get(h.JSON_LENGTH)), model.inputs)
    fields = _fields(head, http)
    if model.target is not None and fields.setdefault(h.TARGET, model.target) != model.target:
        raise InvalidRequest(f"the path asks for {model.name}, but the needs name another target; ask for {model.task}")
    sent_ns = time.time_ns()
    fields[h.ID] = fields.get(h.ID) or fallback_id
    fields[h.REPLY_TO] = reply_to
    fields[h.BATCH] = str(head.batch)
    fields[h.SENT_NS] = str(sent_ns)
    query = parse_query(model.task, fields, sent_ns / 1e6)
    return Envelope(model.topic, body, [(name, text.encode()) for name, text in fields.items()], query)


def _fields(head: RequestHead, http: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    parameters = head.parameters
    if parameters:
        timeout = parameters.get(_TIMEOUT_US)
        if timeout:
            fields[h.LATENCY_MS] = str(_micros(timeout) / 1000)
        for name, value in parameters.items():
            header = _PARAMETERS.get(name)
            if header is not None:
                fields[header] = _text(value)
    for name in _PASSED:  # quicker than to look at each header that a client sends
        text = http.get(name)
        if text is not None:
            fields[name] = text
    return fields


def _json_length(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidRequest(f"header {h.JSON_LENGTH} must be a number of bytes, not {text[:80]!r}")


def _micros(value: Parameter) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise InvalidRequest(f"Expected a number of microseconds - at `$.parameters.{_TIMEOUT_US}`")


def _text(value: Parameter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
