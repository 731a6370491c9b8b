"""A query as the selector reads it: from the record's headers only, never from its value."""

import math
from functools import lru_cache

import msgspec

from schemas import headers as h
from schemas.access import EVERY_TENANT
from schemas.errors import InvalidRequest
from schemas.names import is_name, is_variant_name, is_version
from schemas.needs import Mode, Needs
from schemas.send_time import MOST_LINGER_MS, ON_THE_WAY_MS, ROUNDING_MS, is_believable
from schemas.topics import SHADOWS, TENANTS, is_topic, may_reply_to, results_topic

MAX_ID = 200
MAX_BATCH = 65_536
MAX_REJECTED_UPSTREAM = 10_000
_MOST_BUDGET_MS = 24 * 3600e3
_NO_NEEDS = Needs()


class Query(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One inference request, which is itself a batch of at least one input."""

    id: str
    task: str
    reply_to: str
    sent_ms: float
    """Append time of the record, or the credible send time just before it, in ms by the reader's clock."""
    deadline_ms: float | None
    """Deadline of the answer, in ms by the reader's clock."""
    needs: Needs
    batch: int = 1
    tenant: str | None = None
    rejected_upstream: int = 0
    """Number of similar queries that a gateway has proved to have refused; they count as load."""
    streamed: bool = False
    """True if the result goes to the client's receiver over a connection instead of a topic."""


def parse_query(
    task: str,
    fields: dict[str, str],
    timestamp_ms: float,
    offset_ms: float = 0.0,
    *,
    forwarded: bool = False,
    owner: str | None = None,
) -> Query:
    """Read a query of `task` from its headers.

    Args:
        task: the task, from the name of the topic.
        fields: the headers.
        timestamp_ms: the record's timestamp by the broker's clock.
        offset_ms: the broker's clock minus the reader's clock; the query's times are converted to the reader's clock.
        forwarded: true if a selector wrote the record; its send time then counts as the broker's time.
        owner: the proved tenant of the query; the result may go to this tenant's own topics.

    Raises:
        InvalidRequest: a header is missing or out of range; the message names it.
    """
    get = fields.get
    query_id = get(h.ID)
    if not query_id or len(query_id) > MAX_ID:
        raise InvalidRequest(f"header {h.ID} must hold 1 to {MAX_ID} characters")
    reply_to = get(h.REPLY_TO) or results_topic(task)
    if not (forwarded and reply_to == SHADOWS):  # a selector may name this topic, a client may not
        _check_reply_to(reply_to, owner)
    batch, tenant = get(h.BATCH), get(h.TENANT)
    if tenant is not None:
        _check_tenant(tenant)
    needs = _read_needs(fields)
    said_ms, sent_ms = _sent_ms(fields, timestamp_ms, forwarded)
    deadline_ms = _deadline_ms(get(h.DEADLINE_MS), needs.latency_ms, sent_ms, None if forwarded else said_ms)
    return Query(
        id=query_id,
        task=task,
        reply_to=reply_to,
        sent_ms=sent_ms - offset_ms,
        deadline_ms=None if deadline_ms is None else deadline_ms - offset_ms,
        needs=needs,
        batch=1 if batch is None else int(_number(h.BATCH, batch, 1, MAX_BATCH)),
        tenant=tenant,
        streamed=h.REPLY_STREAM in fields,
    )


def read_deadline_ms(fields: dict[str, str], timestamp_ms: float, *, forwarded: bool) -> float | None:
    """Read the deadline of a query in ms by the broker's clock; the arguments are those of `parse_query`.

    Raises:
        InvalidRequest: a header is out of range.
    """
    said_ms, sent_ms = _sent_ms(fields, timestamp_ms, forwarded)
    latency_ms = _read_needs(fields).latency_ms
    return _deadline_ms(fields.get(h.DEADLINE_MS), latency_ms, sent_ms, None if forwarded else said_ms)


def _read_needs(fields: dict[str, str]) -> Needs:
    get = fields.get
    latency, accuracy, cost = get(h.LATENCY_MS), get(h.MIN_ACCURACY), get(h.MAX_COST)
    mode, target, late, explain = get(h.MODE), get(h.TARGET), get(h.ALLOW_LATE), get(h.EXPLAIN)
    if not (latency or accuracy or cost or mode or target or late or explain):
        return _NO_NEEDS
    return _parse_needs(latency, accuracy, cost, mode, target, late, explain)


@lru_cache(maxsize=1024)
def _check_reply_to(topic: str, owner: str | None) -> None:
    if not is_topic(topic):
        raise InvalidRequest(f"header {h.REPLY_TO} is not the name of a topic: {topic[:80]!r}")
    if not may_reply_to(topic, owner):
        whose = "a tenant's own topic" if topic.startswith(TENANTS) else "a topic of the system itself"
        raise InvalidRequest(f"header {h.REPLY_TO} must not be {topic[:80]!r}, {whose}")


@lru_cache(maxsize=1024)
def _check_tenant(tenant: str) -> None:
    if tenant != EVERY_TENANT and not is_name(tenant):
        raise InvalidRequest(f"header {h.TENANT} is not a name: {tenant[:80]!r}")


# Clients repeat the same needs; without the cache, parsing them takes a quarter of the time to read a query.
@lru_cache(maxsize=1024)
def _parse_needs(
    latency: str | None,
    accuracy: str | None,
    cost: str | None,
    mode: str | None,
    target: str | None,
    late: str | None,
    explain: str | None,
) -> Needs:
    if target and not (is_name(target) or is_variant_name(target) or is_version(target)):
        raise InvalidRequest(f"header {h.TARGET} is not a name of an architecture, version or variant: {target[:80]!r}")
    return Needs(
        latency_ms=_number(h.LATENCY_MS, latency, 0, math.inf) if latency else None,
        min_accuracy=_number(h.MIN_ACCURACY, accuracy, 0, 1) if accuracy else None,
        max_cost=_number(h.MAX_COST, cost, 0, math.inf) if cost else None,
        mode=_mode(mode) if mode else Mode.ONLINE,
        target=target or None,
        allow_late=_flag(h.ALLOW_LATE, late),
        explain=_flag(h.EXPLAIN, explain),
    )


def _sent_ms(fields: dict[str, str], timestamp_ms: float, forwarded: bool) -> tuple[float | None, float]:
    """Return the send time as claimed by the sender, and the send time that is used, both in ms."""
    said_ms = _said_ms(fields.get(h.SENT_NS))
    linger_ns = None if forwarded else fields.get(h.LINGER_NS)
    linger_ms = _linger_ms(linger_ns) if linger_ns else 0.0
    if said_ms is not None:
        # The send time may be up to the linger time before the append time.
        most_ms = ON_THE_WAY_MS if forwarded else ROUNDING_MS + linger_ms
        if is_believable(said_ms, timestamp_ms, most_ms):
            return said_ms, said_ms
    return said_ms, timestamp_ms - linger_ms


def _said_ms(sent_ns: str | None) -> float | None:
    """Return the send time in ms that the sender claims, by an unknown clock; None if it is missing or malformed."""
    return int(sent_ns[:20]) / 1e6 if sent_ns and sent_ns.isascii() and sent_ns.isdigit() else None


def _linger_ms(linger_ns: str) -> float:
    """Return the time in ms that the sender held the query, limited to the longest linger of our own senders."""
    return min(_number(h.LINGER_NS, linger_ns, 0, math.inf) / 1e6, MOST_LINGER_MS)


def _deadline_ms(deadline: str | None, latency_ms: float | None, sent_ms: float, said_ms: float | None) -> float | None:
    """Return the deadline by the broker's clock.

    If the client sent its own send time `said_ms`, the deadline header is read by the client's clock.
    """
    absolute = _number(h.DEADLINE_MS, deadline, 0, math.inf) if deadline else None
    if absolute is not None and said_ms is not None and abs(absolute - said_ms) <= _MOST_BUDGET_MS:
        absolute = sent_ms + absolute - said_ms
    if latency_ms is None:
        return absolute
    relative = sent_ms + latency_ms
    return relative if absolute is None else min(absolute, relative)


def _mode(text: str) -> Mode:
    try:
        return Mode(text)
    except ValueError:
        raise InvalidRequest(f"header {h.MODE} must be `online` or `offline`, not {text[:80]!r}") from None


def _flag(name: str, text: str | None) -> bool:
    if not text or text in ("false", "False", "0"):
        return False
    if text in ("true", "True", "1"):
        return True
    raise InvalidRequest(f"header {name} must be `true` or `false`, not {text[:80]!r}")


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high and math.isfinite(value):
        return value
    upper = f" to {high:g}" if math.isfinite(high) else " or more"
    raise InvalidRequest(f"header {name} must be a number, {low:g}{upper}, not {text[:80]!r}")
