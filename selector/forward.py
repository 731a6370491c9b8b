"""Headers of the records that a selector sends. Pure; `forwarded` is on the hot path.

A query is forwarded with the client's headers, except the headers that the selector sets itself: a client cannot claim
an accuracy, a price or a prediction. A signature is kept although it no longer matches the headers. Its presence shows
that it was verified, so a dead letter can be attributed to its tenant.
"""

from collections.abc import Iterable
from math import ceil
from typing import Final

from schemas import headers as h
from schemas.errors import QueryError
from schemas.headers import RawHeaders
from schemas.needs import Mode
from schemas.query import Query
from selector.choice import Choice

_OWN: Final = frozenset(
    {
        h.TASK, h.SENT_NS, h.TASK_QUEUE_NS, h.PREDICTED_NS, h.ACCURACY, h.COST, h.EXPLANATION, h.DEADLINE_MS,
        h.REPLY_TO, h.STATUS, h.VARIANT, h.WORKER, h.VARIANT_QUEUE_NS, h.COMPUTE_NS, h.RETRY_AFTER_MS,
        h.REASON, h.REJECTED_UPSTREAM, h.REJECTED_UPSTREAM_PROOF, h.LINGER_NS, h.COPIED, h.LATE,
    }
)  # fmt: skip
_NOT_MOVED: Final = frozenset(
    {
        h.MODE,
        h.DEADLINE_MS,
        h.SENT_NS,
        h.LINGER_NS,
        h.SIGNATURE,
        h.REJECTED_UPSTREAM,
        h.REJECTED_UPSTREAM_PROOF,
        h.TASK,
        h.REPLY_TO,
    }
)
_MODE: Final = (h.MODE, Mode.OFFLINE.value.encode())
_JSON: Final = (h.CONTENT_TYPE, b"application/json")


def forwarded(
    query: Query,
    choice: Choice,
    received: Iterable[tuple[str, bytes]],
    now: float,
    offset_ms: float,
    explanation: bytes | None,
    *,
    copied: bool = False,
) -> RawHeaders:
    """Return the headers of a query to the chosen variant; `copied` marks a result that is to be compared.

    `now` is of the selector's own clock, as are the query's times; `offset_ms` converts them to the broker's clock,
    which is sent.
    """
    headers = [pair for pair in received if pair[0] not in _OWN]
    headers += (
        (h.TASK, query.task.encode()),
        (h.REPLY_TO, query.reply_to.encode()),
        (h.SENT_NS, b"%d" % ((now * 1e3 + offset_ms) * 1e6)),
        (h.TASK_QUEUE_NS, b"%d" % _queued_ns(query, now)),
        (h.PREDICTED_NS, b"%d" % (choice.predicted_s * 1e9)),
        (h.VARIANT, choice.variant.name_header),
        (h.ACCURACY, choice.variant.accuracy_header),
        (h.COST, choice.cost_header),
    )
    if query.deadline_ms is not None:
        headers.append((h.DEADLINE_MS, b"%.3f" % (query.deadline_ms + offset_ms)))
    if explanation is not None:
        headers.append((h.EXPLANATION, explanation))
    if copied:
        headers.append((h.COPIED, b"true"))
    return headers


def moved(query: Query, received: Iterable[tuple[str, bytes]], offset_ms: float) -> RawHeaders:
    """Return the headers of a query that is moved to the offline topic's end or to a lane.

    Its deadline is sent by the broker's clock, because no header names another clock any more. Task and reply topic are
    set as headers, because a lane holds queries of all tasks.
    """
    headers = [pair for pair in received if pair[0] not in _NOT_MOVED]
    headers += (_MODE, (h.TASK, query.task.encode()), (h.REPLY_TO, query.reply_to.encode()))
    if query.deadline_ms is not None:
        headers.append((h.DEADLINE_MS, b"%.3f" % (query.deadline_ms + offset_ms)))
    return headers


def refused(
    query: Query, error: QueryError, fields: dict[str, str], now: float, explanation: bytes | None
) -> RawHeaders:
    """Return the headers of an error result."""
    headers = failed(query.id, error, fields)
    headers.append((h.TASK_QUEUE_NS, b"%d" % _queued_ns(query, now)))
    if explanation is not None:
        headers.append((h.EXPLANATION, explanation))
    return headers


def failed(query_id: str, error: QueryError, fields: dict[str, str]) -> RawHeaders:
    """Return the headers of an error result if only the query's id is known."""
    headers = [(h.ID, query_id.encode()), (h.STATUS, error.code.encode()), _JSON]
    if error.reason is not None:
        headers.append((h.REASON, error.reason.encode()))
    if error.retry_after_s is not None:
        headers.append((h.RETRY_AFTER_MS, b"%d" % ceil(error.retry_after_s * 1e3)))
    headers += ((name, fields[name].encode()) for name in h.RETURNED if name in fields)
    return headers


def _queued_ns(query: Query, now: float) -> int:
    return max(int((now * 1e3 - query.sent_ms) * 1e6), 0)
