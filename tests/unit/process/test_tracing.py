"""Tests of sampling, of spans, and of their bounded export; integration tests hold the export to a receiver."""

import threading
import time
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from prometheus_client import REGISTRY

from process.tracing.export import BoundedExport
from process.tracing.settings import Sampler
from process.tracing.tracer import Entry, Kind, Tracer, open_tracer
from schemas.headers import TRACEPARENT
from schemas.trace_context import TraceContext, is_sampled
from tests.kept_spans import KeptSpans

PATIENCE_S = 60.0
PARENT = TraceContext(0x77, 0x5, sampled=True, remote=True)
SAMPLED, NOT_SAMPLED = {TRACEPARENT: str(PARENT)}, {TRACEPARENT: str(PARENT._replace(sampled=False))}
NO_HEADER: dict[str, str] = {}
MALFORMED = {TRACEPARENT: f"zz{str(PARENT)[2:]}"}


def test_decision_of_a_client_is_followed() -> None:
    tracer = KeptSpans(ratio=1.0).tracer
    for decide in (tracer.enter, tracer.follow):
        assert decide(SAMPLED) == Entry(PARENT)
        assert decide(NOT_SAMPLED) is None
    assert tracer.parent(SAMPLED) == PARENT
    assert tracer.parent(NOT_SAMPLED) is None
    assert tracer.parent(NO_HEADER) is None


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_query_without_a_decision_is_drawn(ratio: float) -> None:
    tracer = KeptSpans(ratio=ratio).tracer
    for fields in (NO_HEADER, MALFORMED):
        assert tracer.enter(fields) == tracer.follow(fields) == (Entry(None) if ratio else None)


def test_query_that_its_sender_left_out_is_not_drawn_again() -> None:
    tracer = KeptSpans(ratio=1.0).tracer
    assert tracer.follow(NO_HEADER, decided=True) is None
    assert tracer.follow(SAMPLED, decided=True) == Entry(PARENT)


def test_sampler_without_parents_ignores_clients_at_the_entry_only() -> None:
    never, always = KeptSpans(Sampler.ALWAYS_OFF).tracer, KeptSpans(Sampler.ALWAYS_ON).tracer
    assert never.enter(SAMPLED) is None
    assert always.enter(NOT_SAMPLED) == Entry(PARENT._replace(sampled=False))
    assert never.follow(SAMPLED) == Entry(PARENT), "the gateway has decided"


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("infaas_spans_dropped_total", {"reason": reason}) or 0


def test_queries_beyond_the_limit_are_left_out_and_counted() -> None:
    tracer, before = KeptSpans(most_per_s=3.0).tracer, dropped("limit")
    admitted = [tracer.follow(SAMPLED) for _ in range(5)]
    assert admitted[:3] == [Entry(PARENT)] * 3
    assert admitted[3:] == [None, None]
    assert dropped("limit") - before == 2


def test_header_of_an_unsampled_query_keeps_its_trace() -> None:
    assert Tracer.unsampled(SAMPLED[TRACEPARENT]).decode() == NOT_SAMPLED[TRACEPARENT]
    assert not is_sampled(Tracer.unsampled(MALFORMED[TRACEPARENT]).decode())


def test_span_has_parent_links_kind_and_times_of_the_wall_clock() -> None:
    kept, now_ns = KeptSpans(), time.monotonic_ns()
    span = kept.tracer.begin("one", PARENT, now_ns - 2_000_000, Kind.CONSUMER, {"a": 1}, [PARENT])
    span.end(now_ns)
    span.end(now_ns + 5)
    (one,) = kept.spans
    assert one.parent is not None
    assert (one.parent.trace_id, one.parent.span_id) == PARENT[:2]
    assert (one.kind.name, dict(one.attributes or {})) == ("CONSUMER", {"a": 1})
    assert [link.context.trace_id for link in one.links] == [PARENT.trace_id]
    assert one.start_time is not None
    assert one.end_time is not None
    assert one.end_time - one.start_time == 2_000_000
    assert abs(one.end_time - time.time_ns()) < 60e9
    assert span.context.trace_id == PARENT.trace_id


def test_failed_span_names_its_error() -> None:
    kept = KeptSpans()
    span = kept.tracer.begin("one", None, time.monotonic_ns())
    span.fail("overloaded", "try later")
    span.end()
    (one,) = kept.spans
    assert one.parent is None
    assert (one.attributes or {})["error.type"] == "overloaded"
    assert (one.status.status_code.name, one.status.description) == ("ERROR", "try later")


async def test_traces_are_off_by_default_and_when_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_tracer("gateway", "one") as tracer:
        assert tracer is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with open_tracer("gateway", "one") as tracer:
        assert tracer is None


class StubExporter(SpanExporter):
    """Exporter that waits until it is opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.opened.wait(PATIENCE_S)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        self.opened.set()


def test_full_queue_drops_and_counts_without_waiting() -> None:
    exporter, before = StubExporter(), dropped("queue full")
    export, provider = BoundedExport(exporter, 4, 2), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export)
    tracer = provider.get_tracer("test")
    tracer.start_span("a").end()
    tracer.start_span("b").end()
    assert exporter.entered.wait(PATIENCE_S), "the first batch is on its way to a receiver that does not answer"
    for number in range(10):
        tracer.start_span(str(number)).end()
    assert dropped("queue full") - before == 6
    exporter.opened.set()
    export.shutdown()
    assert exporter.names == ["a", "b", "0", "1", "2", "3"]
