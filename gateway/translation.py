"""Translates a request into the headers of a record. The body is the record's value and stays untouched.

A need may stand in the request's `parameters`, in the query string (a body that is an image has no parameters), or in
an `infaas-*` header; the header wins, so that a proxy in front may set limits. Triton's reserved parameter
`timeout` (microseconds) is the latency where no other is given. A deadline becomes a latency here: it is of the
client's clock if that says when it sent the query, else of the broker's. What is misspelt is refused
(`schemas/spelling.py`).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.model_directory import ServedModel
from gateway.tenants import check_said_tenant, tenant_asking
from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.needs import Mode
from schemas.oip import RequestHead, is_plain, read_head
from schemas.principal import ANYONE, Principal
from schemas.query import Query, parse_query
from schemas.request_size import most_inputs
from schemas.reserved_parameters import TIMEOUT, Parameter
from schemas.spelling import check_headers, check_parameter, check_query_names
from schemas.topics import offline_topic

_OURS: Final = "infaas"
_FILES: Final = ("image/", "audio/", "video/", "multipart/")
_COPIED: Final = (h.ID, h.DEADLINE_MS, h.SENT_NS, *h.NEEDS.values(), h.CONTENT_TYPE, h.JSON_LENGTH, *h.TRACE)


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A query ready to be sent: its record, and what the gateway keeps in mind about it."""

    topic: str
    value: bytes
    headers: h.RawHeaders
    query: Query


def make_envelope(
    model: ServedModel,
    principal: Principal,
    http: Mapping[str, str],
    body: bytes,
    reply_to: str,
    fallback_id: str,
    now_ns: int,
) -> Envelope:
    """Check a request and make the record that asks it.

    Args:
        model: what the path names.
        principal: who asks; the tenant is theirs, whatever the request says.
        http: the headers of HTTP, or of gRPC's metadata: a case-insensitive mapping, or one by names in lower case.
        body: the request's body.
        reply_to: the topic on which the gateway reads results.
        fallback_id: the query's id unless the client gives one.
        now_ns: the present by the broker's clock.

    Raises:
        InvalidRequest: the body or a need is not as it must be; the message says where.
    """
    _check_headers(http)
    json_length = _json_length(http.get(h.JSON_LENGTH))
    content_type = http.get(h.CONTENT_TYPE, "")
    plain = json_length is None and is_plain(content_type, model.inputs)
    if not plain and content_type.lower().startswith(_FILES):
        raise InvalidRequest(f"{model.name} takes no {content_type[:40]}: send its inputs in a request, as JSON")
    head = read_head(body, json_length, model.inputs, plain=plain)
    fields = _fields(head, http)
    if principal is not ANYONE:
        fields.pop(h.TENANT, None)
        if (tenant := tenant_asking(principal, http)) is not None:
            fields[h.TENANT] = tenant
    if model.target is not None and fields.setdefault(h.TARGET, model.target) != model.target:
        raise InvalidRequest(f"the path asks for {model.name}, but the needs name another target; ask for {model.task}")
    fields[h.ID] = fields.get(h.ID) or fallback_id
    fields[h.REPLY_TO] = reply_to
    if head.batch > 1 and head.batch > (most := most_inputs(model.inputs, http, len(body))):
        raise InvalidRequest(
            f"$.inputs[0].shape: says that there are {head.batch} inputs, but {len(body)} bytes hold {most} at most"
        )
    fields[h.BATCH] = str(head.batch)
    try:
        if principal is ANYONE:
            check_said_tenant(fields.get(h.TENANT))
        query = parse_query(model.task, fields, now_ns / 1e6)
    except InvalidRequest as error:
        raise InvalidRequest(_in_client_words(str(error), head.parameters, http)) from None
    if fields.pop(h.DEADLINE_MS, None) is not None and query.deadline_ms is not None:
        fields[h.LATENCY_MS] = f"{max(query.deadline_ms - query.sent_ms, 0.0):.3f}"
    fields[h.SENT_NS] = str(now_ns)
    topic = offline_topic(model.task) if query.needs.mode is Mode.OFFLINE else model.topic
    return Envelope(topic, body, _encoded(fields), query)


def needs_in(query: Mapping[str, str], *others: str) -> dict[str, str]:
    """The needs of a query string, by header; `others` are names that it may hold beside them.

    Raises:
        InvalidRequest: a need is given twice, or it holds any other name.
    """
    _check_once(query, "parameter")
    check_query_names(query, *others)
    return {header: query[name] for name, header in h.NEEDS.items() if name in query}


def _encoded(fields: Mapping[str, str]) -> h.RawHeaders:
    """The headers of a record; HTTP's may hold any bytes, which arrive as surrogates where they are not UTF-8."""
    try:
        return [(name, text.encode()) for name, text in fields.items()]
    except UnicodeEncodeError:
        wrong = next(name for name, text in fields.items() if not text.isprintable())
        raise InvalidRequest(f"header {wrong} is not UTF-8") from None


def _fields(head: RequestHead, http: Mapping[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    parameters = head.parameters
    if parameters:
        timeout = parameters.get(TIMEOUT)
        if timeout:
            fields[h.LATENCY_MS] = str(_micros(timeout) / 1000)
        for name, value in parameters.items():
            header = h.NEEDS.get(name)
            if header is not None:
                fields[header] = _text(value)
            else:
                check_parameter(name)
    for name in _COPIED:  # quicker than to look at each header that a client sends
        text = http.get(name)
        if text is not None:
            fields[name] = text
    return fields


def _check_headers(http: Mapping[str, str]) -> None:
    names = list(http)
    if len(names) != len(http):  # a multidict counts what is said twice, but names it once
        _check_once(http, "header")
    check_headers([name for name in map(str.lower, names) if name.startswith(_OURS)])


def _check_once(fields: Mapping[str, str], kind: str) -> None:
    """Check that what means something here is said once."""
    said = Counter(name.lower() for name, _ in tuple(fields.items()))
    for name, times in said.items():
        if times > 1 and (name.startswith(_OURS) or name in h.NEEDS or name == h.JSON_LENGTH):
            raise InvalidRequest(f"{kind} {name} is given more than once")


def _in_client_words(message: str, parameters: Mapping[str, Parameter], http: Mapping[str, str]) -> str:
    """An error message about a need, which names its header, in the words that the client used."""
    for name, header in h.NEEDS.items():
        if name in parameters and header not in http:
            message = message.replace(f"header {header} ", f"parameter {name} ")
    return message


def _json_length(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    raise InvalidRequest(f"header {h.JSON_LENGTH} must be a number of bytes, not {text[:80]!r}")


def _micros(value: Parameter) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise InvalidRequest(f"Expected a number of microseconds - at `$.parameters.{TIMEOUT}`")


def _text(value: Parameter) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
