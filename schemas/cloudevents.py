"""Queries sent as CloudEvents 1.0 in the Kafka binding, in binary or structured mode.

The event's data becomes the query's value unchanged. Its attributes become headers: `id` becomes `infaas-id`, and an
extension named like one of our headers without prefix and hyphens (`latencyms`, `replyto`, `tenant`) becomes that
header. An attribute whose name is close to one of these, but not equal, is refused as a probable misspelling. A header
sent under its own name takes precedence over the attribute.
"""

import binascii
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from schemas import headers as h
from schemas.errors import InvalidRequest
from schemas.query_names import nearest_name

SPEC_VERSION: Final = "ce_specversion"
_PREFIX: Final = "ce_"
_STRUCTURED: Final = "application/cloudevents"
_SHOWN: Final = 80

ATTRIBUTES: Final[dict[str, str]] = {
    "id": h.ID,
    h.TRACEPARENT: h.TRACEPARENT,
    h.TRACESTATE: h.TRACESTATE,
    h.JSON_LENGTH.replace("-", ""): h.JSON_LENGTH,
} | {
    name.removeprefix("infaas-").replace("-", ""): name
    for name in (h.TASK, h.REPLY_TO, h.DEADLINE_MS, *h.NEEDS.values(), h.BATCH)
}
"""Header that each event attribute stands for."""

_NAMES: Final = tuple(ATTRIBUTES)
_STANDARD: Final = frozenset(
    {"id", "source", "type", "specversion", "datacontenttype", "dataschema", "subject", "time", "data", "data_base64"}
)
_event: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_attribute: Final = msgspec.json.Decoder(str | bool | int | float | None)
_text: Final = msgspec.json.Decoder(str)


def unwrap(fields: Mapping[str, str], value: bytes) -> tuple[dict[str, str], bytes] | None:
    """Extract the query's headers and value from an event; return None if the record is not an event.

    Raises:
        InvalidRequest: the record claims to be an event and is not a valid one.
    """
    if fields.get(h.CONTENT_TYPE, "").lower().startswith(_STRUCTURED):
        return _unwrap_structured(fields, value)
    if SPEC_VERSION in fields:
        attributes = _attributes(fields)
        _check_names(attributes)
        return _as_headers(attributes) | _own(fields), value
    return None


def _unwrap_structured(fields: Mapping[str, str], value: bytes) -> tuple[dict[str, str], bytes]:
    content_type = fields[h.CONTENT_TYPE].lower().partition(";")[0].strip()
    if content_type != f"{_STRUCTURED}+json":
        raise InvalidRequest(f"events of {content_type[:80]!r} are not supported; send {_STRUCTURED}+json")
    try:
        event = _event.decode(value)
        attributes = {name: _as_text(raw) for name, raw in event.items() if name in ATTRIBUTES or name in _MEANT}
        _check_names(event)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise InvalidRequest(f"the CloudEvent is not valid: {error}") from None
    inner = _as_headers(attributes) | _own(fields)
    inner[h.CONTENT_TYPE] = attributes.get("datacontenttype", "application/json")
    return inner, _data(event, inner[h.CONTENT_TYPE])


_MEANT: Final = frozenset({"specversion", "datacontenttype"})


def whom_to_tell(fields: Mapping[str, str], value: bytes) -> tuple[str, str]:
    """Return the id and the reply topic of a record, event or not; each is empty if it cannot be read.

    The receiver of an invalid record needs both to send the error.
    """
    said = _said(fields, value)
    return (fields.get(h.ID) or said.get("id", ""), fields.get(h.REPLY_TO) or said.get("replyto", ""))


def _own(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if not name.startswith(_PREFIX)}


def _attributes(fields: Mapping[str, str]) -> dict[str, str]:
    return {name[len(_PREFIX) :]: text for name, text in fields.items() if name.startswith(_PREFIX)}


def _said(fields: Mapping[str, str], value: bytes) -> dict[str, str]:
    """Return the readable attributes of a record that may be an invalid event."""
    if _STRUCTURED not in fields.get(h.CONTENT_TYPE, "").lower():
        return _attributes(fields)
    try:
        event = _event.decode(value)
        return {name: _text.decode(event[name]) for name in ("id", "replyto") if name in event}
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return {}


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if name not in ATTRIBUTES and name not in _STANDARD and (nearest := nearest_name(name[:_SHOWN], _NAMES)):
            raise InvalidRequest(f"no attribute of an event is called {name[:_SHOWN]!r}: did you mean {nearest}?")


def _as_headers(attributes: Mapping[str, str]) -> dict[str, str]:
    version = attributes.get("specversion", "")
    if not version.startswith("1."):
        raise InvalidRequest(f"CloudEvents of specversion {version[:20]!r} are not supported; send 1.0")
    return {ATTRIBUTES[name]: text for name, text in attributes.items() if name in ATTRIBUTES}


def _as_text(raw: msgspec.Raw) -> str:
    value = _attribute.decode(raw)
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _data(event: Mapping[str, msgspec.Raw], content_type: str) -> bytes:
    data, encoded = event.get("data"), event.get("data_base64")
    try:
        if encoded is not None:
            return binascii.a2b_base64(_text.decode(encoded), strict_mode=True)
        if data is None:
            return b""
        # If the content type is JSON, the data is any JSON value; otherwise it is a JSON string.
        return bytes(data) if "json" in content_type else _text.decode(data).encode()
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidRequest(f"the CloudEvent's data is not valid: {error}") from None
