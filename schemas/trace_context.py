"""W3C Trace Context (Recommendation, 2021): the header `traceparent`, which names a span and says if it is sampled.

    00-<trace id, 32 hexadecimal digits>-<span id, 16 digits>-<flags, 2 digits; the lowest bit: sampled>

A header that is malformed counts as absent, as the standard demands. Pure.

Hot path: `is_sampled` runs once per query and process while tracing is on.
"""

import re
import sys
from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.headers import TRACE, TRACEPARENT, RawHeaders

_SAMPLED: Final = 1
_LENGTH: Final = 55
_LAST_DIGIT: Final = _LENGTH - 1
_ODD: Final = frozenset("13579bdf")
_FORM: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """A span, as its trace's other spans refer to it."""

    trace_id: int
    span_id: int
    sampled: bool
    remote: bool = False
    """True if a header names it, so that another process made it."""

    def __str__(self) -> str:
        """Return the value of the header."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.sampled:02x}"

    @property
    def header(self) -> bytes:
        """Value of the header in a record."""
        return str(self).encode()


def is_sampled(traceparent: str) -> bool:
    """Return true if the flag says so; the rest of the header is not checked."""
    return len(traceparent) >= _LENGTH and traceparent[_LAST_DIGIT] in _ODD


def parse_traceparent(text: str) -> TraceContext | None:
    """Return the span that a header names; None if it is malformed."""
    found = _FORM.fullmatch(text)
    if found is None or (text[:2] == "00" and found[4]):
        return None
    return TraceContext(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & _SAMPLED), remote=True)


def with_traceparent(headers: RawHeaders, traceparent: bytes) -> RawHeaders:
    """Return the headers of a record with this `traceparent` instead of their own."""
    kept = [pair for pair in headers if pair[0] != TRACEPARENT]
    kept.append((TRACEPARENT, traceparent))
    return kept


def sendable_trace(fields: Mapping[str, str]) -> dict[str, str]:
    """Return the trace context in these headers as HTTP headers; clients may have written anything into them."""
    if parse_traceparent(fields.get(TRACEPARENT, "")) is None:
        return {}
    return {name: text for name in TRACE if (text := fields.get(name)) and text.isascii() and text.isprintable()}


def current_traceparent() -> str:
    """Return the header of the span that is current in a program that uses OpenTelemetry; empty in all others."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return str(TraceContext(context.trace_id, context.span_id, context.trace_flags.sampled))
