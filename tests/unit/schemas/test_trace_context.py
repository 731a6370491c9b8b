"""Tests of the header that names a span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.headers import TRACEPARENT, TRACESTATE
from schemas.trace_context import (
    TraceContext,
    current_traceparent,
    is_sampled,
    parse_traceparent,
    sendable_trace,
    with_traceparent,
)

TRACE, SPAN = "4bf92f35" * 4, "00f067aa" * 2
KNOWN = TraceContext(int(TRACE, 16), int(SPAN, 16), sampled=True, remote=True)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_traceparent_is_read_as_written(trace_id: int, span_id: int, sampled: bool) -> None:
    context = TraceContext(trace_id, span_id, sampled)
    assert parse_traceparent(str(context)) == context._replace(remote=True)
    assert is_sampled(str(context)) is sampled
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-03-more") == KNOWN, "of a later version"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_malformed_header_names_no_span(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.text(max_size=60))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    parse_traceparent(text)
    is_sampled(text)


def test_replaced_header_is_the_only_one() -> None:
    state = (TRACESTATE, b"mine=1")
    assert with_traceparent([(TRACEPARENT, b"old"), state], KNOWN.header) == [state, (TRACEPARENT, KNOWN.header)]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ((str(KNOWN), "mine=1"), (str(KNOWN), "mine=1")),
        ((str(KNOWN), ""), (str(KNOWN),)),
        ((str(KNOWN), "mine=1\r\nX-Other: 1"), (str(KNOWN),)),
        ((f"01-{TRACE}-{SPAN}-01-\rmore", ""), ()),
        (("what a client writes", "mine=1"), ()),
    ],
)
def test_sendable_trace_leaves_out_what_http_refuses(given: tuple[str, str], sent: tuple[str, ...]) -> None:
    found = sendable_trace(dict(zip((TRACEPARENT, TRACESTATE), given, strict=True)))
    assert tuple(found.values()) == sent


def test_current_span_is_that_of_the_callers_program() -> None:
    from opentelemetry import context, trace

    assert current_traceparent() == ""
    span = trace.NonRecordingSpan(trace.SpanContext(KNOWN.trace_id, KNOWN.span_id, False, trace.TraceFlags(1)))
    token = context.attach(trace.set_span_in_context(span))
    try:
        assert current_traceparent() == f"00-{TRACE}-{SPAN}-01"
    finally:
        context.detach(token)
