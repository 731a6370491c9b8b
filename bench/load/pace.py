"""Clock of an open loop: queries are sent when they are due, regardless of late answers.

Closed loops hide queueing, because a slow answer delays the next query. An open loop does not.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from itertools import count as count_from
from itertools import pairwise

from prometheus_client import REGISTRY

from schemas import headers as h
from schemas.oip import EncodedMessage, encode_request
from zoo.samples import labelled


async def pace(per_s: float, count: int | None = None, start_s: float | None = None) -> AsyncGenerator[int]:
    """Yield numbers from 0 when they are due, `per_s` of them per second; late ones at once.

    Args:
        per_s: numbers per second.
        count: numbers to yield; None: without end.
        start_s: monotonic time at which number 0 is due; None: now.
    """
    start_s = time.monotonic() if start_s is None else start_s
    for number in count_from() if count is None else range(count):
        await asyncio.sleep(max(start_s + number / per_s - time.monotonic(), 0.0))
        yield number


def small_query() -> tuple[bytes, list[tuple[str, bytes]]]:
    """Make a query of one small input: the record's value and its headers."""
    inputs, _labels = labelled("digits")
    return record_of(encode_request({name: array[:1] for name, array in inputs.items()}))


def record_of(query: EncodedMessage) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Return the value of a query's record and the headers of its form."""
    return query.value, [
        (h.CONTENT_TYPE, query.content_type.encode()),
        (h.JSON_LENGTH, str(query.json_length).encode()),
    ]


def silence_s(answered_s: Iterable[float], killed_s: float, near_s: float) -> float:
    """Return the longest time without an answer within `near_s` seconds after the kill; all in seconds of one clock."""
    near = sorted(at for at in answered_s if killed_s <= at <= killed_s + near_s) or [killed_s + near_s]
    return max(later - earlier for earlier, later in pairwise([killed_s, *near]))


def repeated_results() -> int:
    """Count the duplicate results that the client library of this process has dropped so far."""
    return int(REGISTRY.get_sample_value("infaas_replies_dropped_total", {"reason": "duplicate"}) or 0)
