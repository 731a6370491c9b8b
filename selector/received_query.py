"""What a selector reads from a record: the query, or what little is needed to answer that it cannot be read.

Hot: `read_query` runs once a query.
"""

from typing import Final, NamedTuple

from broker.kafka_types import Record
from broker.outbox import Message
from schemas import headers as h
from schemas.cloudevents import SPEC_VERSION, unwrap
from schemas.errors import InvalidRequest, QueryError
from schemas.headers import RawHeaders, as_text
from schemas.needs import Mode
from schemas.query import MAX_ID, Query, parse_query
from schemas.result import error_value
from schemas.topics import may_reply_to, results_topic, task_of
from selector.forward import failed

_EVENT: Final = "cloudevents"


class ReceivedQuery(NamedTuple):
    """A query as it came in, out of its CloudEvent if it was in one."""

    query: Query
    fields: dict[str, str]
    headers: RawHeaders
    value: bytes | None


def read_query(task: str, record: Record, offset_ms: float) -> ReceivedQuery:
    """Read the query in a record; its times are by the clock that the broker's is `offset_ms` ahead of.

    Raises:
        InvalidRequest: it cannot be read; the message says why.
    """
    return _parsed(task, record, offset_ms, *_unwrapped(record))


def read_offline_query(task: str, record: Record, offset_ms: float) -> ReceivedQuery:
    """Read the query in a record of a topic of offline queries: it is one, whether it says so or not.

    Raises:
        InvalidRequest: it cannot be read; the message says why.
    """
    fields, headers, value = _unwrapped(record)
    if fields.get(h.MODE) in (None, "", Mode.ONLINE):
        fields[h.MODE] = Mode.OFFLINE.value
        headers = [pair for pair in headers if pair[0] != h.MODE]
        headers.append((h.MODE, Mode.OFFLINE.value.encode()))
    return _parsed(task, record, offset_ms, fields, headers, value)


def unreadable_reply(record: Record, error: QueryError) -> Message | None:
    """An error result from what little can be read of a record."""
    fields = {name: value.decode(errors="replace") if value else "" for name, value in record.headers}
    query_id = fields.get(h.ID) or fields.get("ce_id") or ""
    topic = fields.get(h.REPLY_TO) or fields.get("ce_replyto") or results_topic(task_of(record.topic))
    if not 0 < len(query_id) <= MAX_ID or not may_reply_to(topic):
        return None
    return error_result(topic, error, failed(query_id, error, fields), fields)


def error_result(topic: str, error: QueryError, headers: RawHeaders, fields: dict[str, str]) -> Message:
    """The record of an error result; `headers` begin with the query's id, `fields` are the query's own headers."""
    stream = fields.get(h.REPLY_STREAM, "")
    return Message(topic, error_value(str(error)), headers, headers[0][1], status=error.code.value, stream=stream)


def _unwrapped(record: Record) -> tuple[dict[str, str], RawHeaders, bytes | None]:
    try:
        fields = as_text(record.headers)
    except UnicodeError:
        raise InvalidRequest("the name or the value of a header is not UTF-8") from None
    content_type = fields.get(h.CONTENT_TYPE)
    if SPEC_VERSION not in fields and not (content_type and _EVENT in content_type.lower()):
        return fields, record.headers, record.value  # pyright: ignore[reportReturnType] - a tuple of pairs will do
    event = unwrap(fields, record.value or b"")
    if event is None:
        raise InvalidRequest("the record says it is a CloudEvent, and is none")
    inner, data = event
    return inner, [(name, text.encode()) for name, text in inner.items()], data


def _parsed(
    task: str, record: Record, offset_ms: float, fields: dict[str, str], headers: RawHeaders, value: bytes | None
) -> ReceivedQuery:
    return ReceivedQuery(parse_query(task, fields, record.timestamp, offset_ms), fields, headers, value)
