"""A query as the selector reads it, from the record's headers only, never from its value: its needs and its send time.

An absent need sets no limit.

The send time is the sender's claim if it agrees with the broker's timestamp, which is the append time in whole
milliseconds. A sender that knows the broker's time gives its send time more precisely. The claim is used only if it is
consistent with the timestamp. Otherwise a sender with a wrong clock, or a dishonest one, could make its queries appear
older or younger.

`most_inputs` detects records whose header claims too many inputs, without parsing the value. It assumes the smallest
encoding. A number takes at least one byte in JSON and in binary form, because 8-bit integers are cast to any type. An
element of BYTES takes at least three bytes: quotes and comma. A variable axis besides the batch counts as 1. A valid
request is never shorter. A request that claims as many inputs as its bytes can contain costs its sender those bytes,
and the worker, which counts the inputs, refuses it.
"""

import math
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final

import msgspec

from schemas import headers as h
from schemas.access import EVERY_TENANT
from schemas.errors import InvalidRequest
from schemas.names import is_name, is_variant_name, is_version
from schemas.signature import TensorSpec, is_plain
from schemas.topics import SHADOWS, TENANTS, is_topic, may_reply_to, results_topic


class Mode(StrEnum):
    """Online queries are answered as soon as possible; offline queries are computed when workers are idle."""

    ONLINE = "online"
    OFFLINE = "offline"


class Needs(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Limits of one query, in the units of the headers of the same names."""

    latency_ms: float | None = None
    """Maximum milliseconds from the client's send to the result."""
    min_accuracy: float | None = None
    """Minimum accuracy, 0..1, as measured on the task's validation set."""
    max_cost: float | None = None
    """Maximum USD per 1000 queries of this size."""
    mode: Mode = Mode.ONLINE
    target: str | None = None
    """Architecture, version of an architecture (`architecture@2`) or variant; None: any of the task."""
    allow_late: bool = False
    """True if a late answer is better than the error `overloaded`."""
    explain: bool = False
    """True if the result shall explain the choice of the variant."""


ROUNDING_MS: Final = 1.0
"""Tolerance for the rounding of the timestamp and for the sender's error in the broker's time."""
ON_THE_WAY_MS: Final = 100.0
"""Maximum time from the send to the append for our own senders."""

MOST_LINGER_MS: Final = 20.0
"""Maximum time for which a sender may hold a query to batch requests."""


def believed_ms(said_ms: float, append_ms: float, most_ms: float = ON_THE_WAY_MS) -> float:
    """Return `said_ms` if it is credible, else `append_ms`."""
    return said_ms if is_believable(said_ms, append_ms, most_ms) else append_ms


def is_believable(said_ms: float, append_ms: float, most_ms: float) -> bool:
    """Return true if the append time is the claimed send time or at most `most_ms` later."""
    return -ROUNDING_MS <= append_ms - said_ms <= most_ms


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

    @property
    def due_s(self) -> float:
        """Deadline in seconds by the reader's clock; infinite without one."""
        return math.inf if self.deadline_ms is None else self.deadline_ms / 1e3


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


_LEAST_TEXT: Final = 3
"""Bytes of an element of BYTES in JSON; in binary form the length prefix alone takes four."""


def most_inputs(specs: tuple[TensorSpec, ...], fields: Mapping[str, str], size: int) -> int:
    """Return the maximum number of inputs in a request of `size` bytes with these headers.

    The result is at least 1, so that an empty request reaches the worker, which explains the error.
    """
    if is_plain(fields.get(h.CONTENT_TYPE, ""), specs):
        return 1
    return max(size // _least_bytes(specs), 1)


@lru_cache(maxsize=1024)
def _least_bytes(specs: tuple[TensorSpec, ...]) -> int:
    needed = [spec for spec in specs if not spec.parameter]
    return max(sum(_elements(spec) * (_LEAST_TEXT if spec.datatype == "BYTES" else 1) for spec in needed), 1)


def _elements(spec: TensorSpec) -> int:
    return math.prod(max(length, 1) for length in spec.shape[1:])
