"""Tests of a selector's spans: the decision in words, and the header that is passed on."""

from types import SimpleNamespace

import pytest

from broker.kafka.types import Record
from schemas import headers as h
from schemas.topics import task_topic
from schemas.trace_context import TraceContext, parse_traceparent
from selector.admission.received_query import QueryReader, ReceivedQuery
from selector.dispatch.spans import DecisionSpans
from selector.policy.choice import Choice, Refusal
from selector.policy.selection import choose
from tests.kept_spans import KeptSpans
from tests.unit.selector.story import NO_UPGRADES, NOW, TASK, three

PARENT = TraceContext(7, 5, sampled=True)
TOPIC = task_topic(TASK)
PROCESS, QUEUE = f"process {TOPIC}", f"queue {TOPIC}"


def received(*headers: tuple[str, bytes]) -> ReceivedQuery:
    record = Record(TOPIC, 2, 9, int(NOW * 1e3) - 30, 0, b"k", b"{}", [(h.ID, b"q"), *headers])
    return QueryReader().read(record, 0.0)


def decided(kept: KeptSpans, query: ReceivedQuery, times: int = 1) -> h.RawHeaders:
    """Trace the decision on a query some times; return the headers of the last one."""
    state = three()
    spans = DecisionSpans(kept.tracer, state, NO_UPGRADES)
    passed_on: h.RawHeaders = []
    for _ in range(times):
        span, passed_on = spans.begin(query, NOW)
        outcome = choose(query.query, state, NOW, NO_UPGRADES)
        if span is not None and isinstance(outcome, Choice):
            span.forwarded(query.query, outcome, NOW)
        elif span is not None and isinstance(outcome, Refusal):
            span.refused(query.query, outcome, NOW)
    return passed_on


def test_decision_lists_candidates_in_words() -> None:
    kept = KeptSpans()
    passed_on = decided(kept, received((h.TRACEPARENT, PARENT.header)))
    found = kept.attributes(PROCESS)
    queue, process = kept.spans
    assert found["infaas.variant"] in found["infaas.considered"][0]
    assert ": chosen, predicted" in found["infaas.considered"][0]
    assert found["messaging.destination.partition.id"] == "2"
    assert found["messaging.kafka.offset"] == 9
    assert process.context is not None
    assert parse_traceparent(h.as_text(passed_on)[h.TRACEPARENT]) == TraceContext(
        7, process.context.span_id, sampled=True, remote=True
    )
    for span in (queue, process):
        assert span.parent is not None
        assert span.parent.span_id == PARENT.span_id
    assert queue.end_time == process.start_time
    assert (queue.end_time or 0) - (queue.start_time or 0) == pytest.approx(30e6, rel=0.05)


def test_refusal_is_an_error_with_its_candidates() -> None:
    kept = KeptSpans()
    decided(kept, received((h.TRACEPARENT, PARENT.header), (h.MIN_ACCURACY, b"0.9999")))
    found = kept.attributes(PROCESS)
    assert found["error.type"] == "unsatisfiable"
    assert any("is not accurate enough" in row for row in found["infaas.considered"])


def test_candidates_are_left_out_while_they_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first explanation takes 10 ms, so the next one is due a second later; the decisions come before."""
    times_s = iter((1.0, 1.01, 1.5, 2.0))
    monkeypatch.setattr("selector.dispatch.spans.time", SimpleNamespace(monotonic=lambda: next(times_s)))
    kept = KeptSpans()
    decided(kept, received((h.TRACEPARENT, PARENT.header)), times=3)
    listed = ["infaas.considered" in (span.attributes or {}) for span in kept.spans if span.name == PROCESS]
    assert listed == [True, False, False]


def test_query_that_is_not_traced_is_marked_only_if_its_client_asked() -> None:
    kept = KeptSpans(most_per_s=1.0)
    plain = received()
    assert decided(kept, plain) == plain.headers
    sampled = received((h.TRACEPARENT, PARENT.header))
    passed_on = decided(kept, sampled, times=2)
    assert h.as_text(passed_on)[h.TRACEPARENT] == str(PARENT._replace(sampled=False)), "beyond the limit"
    assert len(kept.spans) == 2


def test_trace_of_a_sender_without_spans_begins_with_its_record() -> None:
    kept = KeptSpans(ratio=1.0)
    decided(kept, received((h.REPLY_TO, b"infaas.replies.gateway-1a2b3c")))
    assert not kept.spans, "a gateway has decided itself"
    decided(kept, received((h.REPLY_TO, b"infaas.replies.client-1a2b3c")))
    queue, process = kept.spans
    assert queue.parent is None
    assert process.parent is not None
    assert queue.context is not None
    assert process.parent.span_id == queue.context.span_id
