"""Tests of the export: bounded, counted, and never waited for."""

import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY

from process.tracing.export import BoundedExport

PATIENCE_S = 60.0


class StubExporter(SpanExporter):
    """Exporter that waits until it is opened, or is shut down."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()
        self.names: list[str] = []
        self._result = result
        self._closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        assert self.opened.wait(PATIENCE_S)
        if self._closed:
            return SpanExportResult.FAILURE
        self.names += [span.name for span in spans]
        return self._result

    def shutdown(self) -> None:
        self._closed = True
        self.opened.set()


def counted() -> list[float]:
    """Return the numbers of spans dropped at a full queue, exported, and not accepted."""
    dropped = [
        REGISTRY.get_sample_value("infaas_spans_dropped_total", {"reason": reason})
        for reason in ("queue full", "not accepted")
    ]
    return [count or 0 for count in (dropped[0], REGISTRY.get_sample_value("infaas_spans_exported_total"), dropped[1])]


class Counts:
    """Changes of the counters since the start."""

    def __init__(self) -> None:
        self._before = counted()

    def __call__(self) -> list[float]:
        return [now - before for now, before in zip(counted(), self._before, strict=True)]


def exporting(exporter: StubExporter, most: int, batch: int) -> tuple[BoundedExport, Tracer]:
    export = BoundedExport(exporter, most, batch)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(export)
    return export, provider.get_tracer("test")


def test_full_queue_drops_and_counts_without_waiting() -> None:
    exporter, counts = StubExporter(), Counts()
    export, tracer = exporting(exporter, most=4, batch=2)
    tracer.start_span("a").end()
    tracer.start_span("b").end()
    assert exporter.entered.wait(PATIENCE_S), "the first batch is on its way to a receiver that does not answer"
    for number in range(10):
        tracer.start_span(str(number)).end()
    assert counts() == [6, 0, 0]
    exporter.opened.set()
    export.shutdown()
    assert exporter.names == ["a", "b", "0", "1", "2", "3"]
    assert counts() == [6, 6, 0]


def test_refused_spans_are_counted() -> None:
    exporter, counts = StubExporter(SpanExportResult.FAILURE), Counts()
    export, tracer = exporting(exporter, most=4, batch=2)
    exporter.opened.set()
    tracer.start_span("a").end()
    export.shutdown()
    assert counts() == [0, 0, 1]


def test_shutdown_does_not_wait_for_a_receiver_that_does_not_answer() -> None:
    exporter = StubExporter()
    export, tracer = exporting(exporter, most=4, batch=1)
    tracer.start_span("a").end()
    assert exporter.entered.wait(PATIENCE_S)
    began_s = time.monotonic()
    export.shutdown()
    assert time.monotonic() - began_s < PATIENCE_S / 2
