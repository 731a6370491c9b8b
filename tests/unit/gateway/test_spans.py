"""Tests of a gateway's spans, and of the header that it writes into the record."""

import asyncio
import time

import pytest

from broker.kafka.types import KafkaError
from broker.producing.producer import Ack
from gateway.inference import error_headers, result_headers
from gateway.model_directory import ModelDirectory
from gateway.spans import QuerySpans, begin_spans, mark_unsampled
from gateway.statistics import ModelStatistics
from gateway.translation import Envelope
from schemas import headers as h
from schemas.catalog import Catalog
from schemas.errors import Overloaded, RefusalReason
from schemas.query import Needs, Query
from schemas.result import Result
from schemas.topics import task_topic
from schemas.trace_context import TraceContext, parse_traceparent
from tests.example_rows import a_task
from tests.kept_spans import KeptSpans

MODEL = ModelDirectory(Catalog(tasks={"digits": a_task("digits")})).seen_by(None).find("digits")
PARENT = TraceContext(7, 5, sampled=True)
QUERY = Query(
    id="q", task="digits", reply_to="infaas.replies.r", sent_ms=0.0, deadline_ms=None, needs=Needs(latency_ms=50.0)
)
SEND, INFER = f"send {task_topic('digits')}", "infer digits"


def envelope(*headers: tuple[str, bytes]) -> Envelope:
    return Envelope(task_topic("digits"), b"{}", [(h.ID, b"q"), *headers], QUERY)


def begun(kept: KeptSpans) -> QuerySpans:
    spans = begin_spans(kept.tracer, MODEL, {h.TRACEPARENT: str(PARENT)}, time.monotonic_ns())
    assert spans is not None
    return spans


async def test_record_names_the_span_that_sends_it() -> None:
    kept = KeptSpans()
    spans = begun(kept)
    sent = spans.send(envelope((h.TRACEPARENT, PARENT.header), (h.TRACESTATE, b"mine=1")), time.monotonic_ns())
    assert sent.on_acknowledged is not None
    ack: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
    ack.set_result(Ack(sent.topic, 3, 42))
    sent.on_acknowledged(ack)
    result = Result(id="q", status="ok", value=b"", variant="v", worker="w", accuracy=0.9)
    told = result_headers(spans.succeeded(result))
    spans.end()
    sending, whole = kept.spans
    named = parse_traceparent(h.as_text(sent.headers)[h.TRACEPARENT])
    assert named is not None
    assert sending.context is not None
    assert (named.trace_id, named.span_id) == (PARENT.trace_id, sending.context.span_id)
    assert h.as_text(sent.headers)[h.TRACESTATE] == "mine=1"
    assert kept.attributes(SEND)["messaging.kafka.offset"] == 42
    assert kept.attributes(INFER)["infaas.variant"] == "v"
    assert kept.attributes(INFER)["infaas.latency_ms"] == 50
    assert whole.parent is not None
    assert whole.parent.span_id == PARENT.span_id
    assert whole.context is not None
    assert parse_traceparent(told[h.TRACEPARENT]) == TraceContext(7, whole.context.span_id, sampled=True, remote=True)
    assert spans.exemplar["trace_id"] == f"{7:032x}"
    assert h.TRACEPARENT not in result_headers(result), "the query is not sampled"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_failed_send_and_refusal_are_errors(cancelled: bool) -> None:
    kept = KeptSpans()
    spans = begun(kept)
    sent = spans.send(envelope(), time.monotonic_ns())
    assert sent.on_acknowledged is not None
    ack: asyncio.Future[Ack] = asyncio.get_running_loop().create_future()
    if cancelled:
        ack.cancel()
    else:
        ack.set_exception(KafkaError("not now"))
    sent.on_acknowledged(ack)
    error = Overloaded("later", reason=RefusalReason.KAFKA_UNAVAILABLE)
    assert h.TRACEPARENT not in error_headers(error), "the query is not sampled"
    spans.failed(error)
    spans.end()
    assert error_headers(error)[h.TRACEPARENT].split("-")[1] == spans.exemplar["trace_id"]
    assert kept.attributes(SEND)["error.type"] == ("internal" if cancelled else "KafkaError")
    assert kept.attributes(INFER)["error.type"] == "overloaded"
    assert kept.attributes(INFER)["infaas.refusal"] == RefusalReason.KAFKA_UNAVAILABLE


def test_unsampled_query_says_so_if_its_client_said_otherwise() -> None:
    kept = KeptSpans(ratio=0.0)
    assert begin_spans(kept.tracer, MODEL, {}, 0) is None
    own, of_client = envelope(), envelope((h.TRACEPARENT, PARENT.header))
    mark_unsampled(own, {})
    assert own == envelope()
    mark_unsampled(of_client, {h.TRACEPARENT: str(PARENT)})  # beyond the limit
    assert h.as_text(of_client.headers)[h.TRACEPARENT] == str(PARENT._replace(sampled=False))
    before = envelope((h.TRACEPARENT, b"00-ab-cd-00"))
    mark_unsampled(before, {h.TRACEPARENT: "00-ab-cd-00"})
    assert before == envelope((h.TRACEPARENT, b"00-ab-cd-00")), "the client has decided"


def test_exemplar_is_the_last_traced_answer_of_its_bucket() -> None:
    statistics = ModelStatistics("digits", "1")
    result = Result(id="q", status="ok", value=b"")
    for number, exemplar in enumerate([{"trace_id": "a"}, None, {"trace_id": "b"}]):
        statistics.succeeded(result, 1, 0, 2_000_000 + number, exemplar)
    ((_, kept),) = statistics.exemplars.items()
    assert kept.labels == {"trace_id": "b"}
    assert sum(statistics.buckets) == 3
