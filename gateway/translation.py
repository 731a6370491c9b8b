"""Translation of a request into the headers of a record. The body becomes the record's value unchanged.

A need is given in the request's `parameters`, in the query string (an image body has no parameters), or in an
`infaas-*` header. Headers take precedence, so that a proxy can set limits. Triton's reserved parameter `timeout`
(microseconds) is the latency if no other is given. A deadline is translated into a latency, on the client's clock if
the request holds its sending time, else on the broker's. Misspelt names are refused (`schemas/query_names.py`).
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from multidict import CIMultiDict

from broker.producing.producer import Ack
from gateway.auth.authenticator import check_named_tenant, tenant_of_request
from gateway.model_directory import ServedModel
from schemas import headers as h
from schemas.access import ANYONE, Principal
from schemas.errors import InvalidRequest
from schemas.oip import EncodedMessage, RequestHead, read_head
from schemas.query import Mode, Query, most_inputs, parse_query
from schemas.query_names import TIMEOUT, Parameter, check_headers, check_parameter, check_query_names
from schemas.signature import is_plain
from schemas.topics import offline_topic

_OURS: Final = "infaas"
_FILES: Final = ("image/", "audio/", "video/", "multipart/")
_COPIED: Final = (
    h.ID, h.DEADLINE_MS, h.SENT_NS, *h.NEEDS.values(), h.CONTENT_TYPE, h.JSON_LENGTH, *h.TRACE,
)  # fmt: skip


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A query ready to be sent: its record and its parsed form."""

    topic: str
    value: bytes
    headers: h.RawHeaders
    query: Query
    on_acknowledged: Callable[[asyncio.Future[Ack]], None] | None = None
    """Callback with the acknowledgement of the record, of a traced query."""


def make_envelope(
    model: ServedModel,
    principal: Principal,
    http: Mapping[str, str],
    body: bytes,
    reply_to: str,
    fallback_id: str,
    now_ns: int,
) -> Envelope:
    """Check a request and return its query record.

    Args:
        model: model named in the path.
        principal: caller; its tenant overrides the one in the request.
        http: headers of HTTP or metadata of gRPC, case-insensitive or with names in lower case.
        body: body of the request.
        reply_to: topic from which the gateway reads results.
        fallback_id: id of the query if the client names none.
        now_ns: present time of the broker's clock.

    Raises:
        InvalidRequest: the body or a need is invalid; the message says where.
    """
    _check_headers(http)
    json_length = _json_length(http.get(h.JSON_LENGTH))
    content_type = http.get(h.CONTENT_TYPE, "")
    plain = json_length is None and is_plain(content_type, model.inputs)
    if not plain and content_type.lower().startswith(_FILES):
        raise InvalidRequest(f"{model.name} accepts no {content_type[:40]}: send its inputs in a request, as JSON")
    head = read_head(body, json_length, model.inputs, plain=plain)
    fields = _fields(head, http)
    if principal is not ANYONE:
        fields.pop(h.TENANT, None)
        if (tenant := tenant_of_request(principal, http)) is not None:
            fields[h.TENANT] = tenant
    if model.target is not None and fields.setdefault(h.TARGET, model.target) != model.target:
        raise InvalidRequest(
            f"the path names {model.name}, but the needs name another target; use the path of {model.task}"
        )
    fields[h.ID] = fields.get(h.ID) or fallback_id
    fields[h.REPLY_TO] = reply_to
    if head.batch > 1 and head.batch > (most := most_inputs(model.inputs, http, len(body))):
        raise InvalidRequest(
            f"$.inputs[0].shape: states {head.batch} inputs, but {len(body)} bytes hold at most {most}"
        )
    fields[h.BATCH] = str(head.batch)
    try:
        if principal is ANYONE:
            check_named_tenant(fields.get(h.TENANT))
        query = parse_query(model.task, fields, now_ns / 1e6)
    except InvalidRequest as error:
        raise InvalidRequest(_in_client_words(str(error), head.parameters, http)) from None
    if fields.pop(h.DEADLINE_MS, None) is not None and query.deadline_ms is not None:
        fields[h.LATENCY_MS] = f"{max(query.deadline_ms - query.sent_ms, 0.0):.3f}"
    fields[h.SENT_NS] = str(now_ns)
    topic = offline_topic(model.task) if query.needs.mode is Mode.OFFLINE else model.topic
    return Envelope(topic, body, _encoded(fields), query)


def needs_in(query: Mapping[str, str], *others: str) -> dict[str, str]:
    """Return the needs of a query string, by header; `others` are further permitted names.

    Raises:
        InvalidRequest: a need is given twice, or a name is unknown.
    """
    _check_once(query, "parameter")
    check_query_names(query, *others)
    return {header: query[name] for name, header in h.NEEDS.items() if name in query}


def with_needs(headers: Mapping[str, str], query: Mapping[str, str], *others: str) -> "CIMultiDict[str]":
    """Return the headers of a request with the needs of its query string, which headers override; see `needs_in`."""
    found = CIMultiDict(headers)
    for header, text in needs_in(query, *others).items():
        found.setdefault(header, text)
    return found


def made_headers(headers: Mapping[str, str], query: Mapping[str, str], made: EncodedMessage) -> "CIMultiDict[str]":
    """Return the headers of a request, as `with_needs`, with the form of the query that was made from its body."""
    found = with_needs(headers, query)
    found[h.CONTENT_TYPE] = made.content_type
    found.popall(h.JSON_LENGTH, None)
    if made.json_length is not None:
        found[h.JSON_LENGTH] = str(made.json_length)
    return found


def _encoded(fields: Mapping[str, str]) -> h.RawHeaders:
    """Encode headers for a record; HTTP headers that are not UTF-8 contain surrogates, which cannot be encoded."""
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
                fields[header] = h.value_text(value)
            else:
                check_parameter(name)
    for name in _COPIED:  # faster than a loop over all headers of the request
        text = http.get(name)
        if text is not None:
            fields[name] = text
    return fields


def _check_headers(http: Mapping[str, str]) -> None:
    names = list(http)
    if len(names) != len(http):  # the length of a multidict counts duplicates, its keys do not
        _check_once(http, "header")
    check_headers([name for name in map(str.lower, names) if name.startswith(_OURS)])


def _check_once(fields: Mapping[str, str], kind: str) -> None:
    """Check that no name with a meaning here is given more than once."""
    said = Counter(name.lower() for name, _ in tuple(fields.items()))
    for name, times in said.items():
        if times > 1 and (name.startswith(_OURS) or name in h.NEEDS or name == h.JSON_LENGTH):
            raise InvalidRequest(f"{kind} {name} is given more than once")


def _in_client_words(message: str, parameters: Mapping[str, Parameter], http: Mapping[str, str]) -> str:
    """Replace a header's name in an error message by the name of the parameter that the client used."""
    for name, header in h.NEEDS.items():
        if name in parameters and header not in http:
            message = message.replace(f"header {header} ", f"parameter {name} ")
    return message


def _json_length(text: str | None) -> int | None:
    if text is None:
        return None
    if h.is_count(text):
        return int(text)
    raise InvalidRequest(f"header {h.JSON_LENGTH} must be a number of bytes, not {text[:80]!r}")


def _micros(value: Parameter) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise InvalidRequest(f"Expected a number of microseconds - at `$.parameters.{TIMEOUT}`")
