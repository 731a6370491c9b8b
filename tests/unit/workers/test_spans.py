"""Tests of an instance's spans: batches with links, large queries, and answers that fail."""

import time

from broker.kafka.types import Record
from schemas import headers as h
from schemas.errors import DeadlineExceeded
from schemas.trace_context import TraceContext, parse_traceparent
from tests.kept_spans import KeptSpans
from tests.unit.workers.test_codec import MODEL, request
from workers.serving.codec import decode_query, encode_error, identify
from workers.serving.computation import ComputedBatch
from workers.serving.pending_query import PendingQuery, QueryPart
from workers.serving.spans import InstanceSpans

TOPIC = "infaas.variants.v"
MS = 1_000_000


def parts_of(rows: int, trace: int) -> list[QueryPart]:
    """Return the parts of a query of this many rows, sampled unless `trace` is 0."""
    header = {h.TRACEPARENT: str(TraceContext(trace, 5, sampled=True))} if trace else {}
    return decode_query(identify(request(rows, header), "digits"), MODEL)


def batch(*parts: QueryPart) -> ComputedBatch:
    return ComputedBatch([*parts], [{} for _ in parts], time.monotonic_ns() - 5 * MS, 2 * MS, slot=1)


def answer(spans: InstanceSpans, query: PendingQuery) -> dict[str, str]:
    message = encode_error(query, DeadlineExceeded(), "v", "w")
    spans.answering(query, message, DeadlineExceeded())
    return h.as_text(message.headers)


def test_batch_links_to_each_of_its_sampled_queries() -> None:
    kept = KeptSpans()
    spans = InstanceSpans(kept.tracer, "v", "w")
    first, second, plain = parts_of(1, 7), parts_of(2, 8), parts_of(1, 0)
    exemplar = spans.computed(batch(*first, *second, *plain))
    assert exemplar is not None
    assert exemplar["trace_id"] == f"{7:032x}"
    (whole,) = [span for span in kept.spans if span.name == "batch v"]
    computes = [span for span in kept.spans if span.name == "compute v"]
    assert whole.parent is None
    assert [link.context.trace_id for link in whole.links] == [7, 8]
    assert kept.attributes("batch v")["messaging.batch.message_count"] == 3
    assert kept.attributes("batch v")["infaas.inputs"] == 4
    assert whole.context is not None
    assert [span.links[0].context.span_id for span in computes] == [whole.context.span_id] * 2
    assert [(span.start_time, span.end_time) for span in computes] == [(whole.start_time, whole.end_time)] * 2


def test_batch_without_sampled_queries_makes_no_spans() -> None:
    kept = KeptSpans()
    assert InstanceSpans(kept.tracer, "v", "w").computed(batch(*parts_of(1, 0))) is None
    assert not kept.spans


def test_large_query_is_processed_in_one_span() -> None:
    kept = KeptSpans()
    spans = InstanceSpans(kept.tracer, "v", "w")
    parts = parts_of(20, 7)
    for part in parts:
        spans.computed(batch(part))
    query = parts[0].query
    named = answer(spans, query)
    spans.done(query.record, None)
    names = [span.name for span in kept.spans]
    assert names.count("compute v") == len(parts) == 3
    assert names.count(f"process {TOPIC}") == names.count(f"queue {TOPIC}") == 1
    (sending,) = [span for span in kept.spans if span.kind.name == "PRODUCER"]
    assert sending.context is not None
    assert parse_traceparent(named[h.TRACEPARENT]) == TraceContext(
        7, sending.context.span_id, sampled=True, remote=True
    )
    assert kept.attributes(f"process {TOPIC}")["error.type"] == "deadline_exceeded"
    assert kept.attributes(sending.name)["error.type"] == "not_acknowledged"


def test_query_that_was_never_computed_has_a_trace() -> None:
    kept = KeptSpans()
    spans = InstanceSpans(kept.tracer, "v", "w")
    (part,) = parts_of(1, 7)
    answer(spans, part.query)
    message = encode_error(part.query, DeadlineExceeded(), "v", "w")
    spans.done(part.query.record, message)
    spans.done(part.query.record, message)
    assert {span.name.partition(" ")[0] for span in kept.spans} == {"queue", "process", "send"}


def test_unsampled_answer_keeps_its_header() -> None:
    kept = KeptSpans()
    (part,) = parts_of(1, 0)
    part.query.fields[h.TRACEPARENT] = "00-ab-cd-00"
    assert answer(InstanceSpans(kept.tracer, "v", "w"), part.query)[h.TRACEPARENT] == "00-ab-cd-00"
    assert not kept.spans


def test_spans_of_answers_that_are_never_acknowledged_are_bounded() -> None:
    kept = KeptSpans()
    spans = InstanceSpans(kept.tracer, "v", "w")
    for offset in range(1005):
        (part,) = parts_of(1, 7)
        record = part.query.record
        part.query.record = Record(TOPIC, 1, offset, 1_000, 0, b"k", record.value, record.headers)
        answer(spans, part.query)
    assert sum(span.name.startswith("process") for span in kept.spans) == 5
