"""Export of spans in a thread of its own: it never delays a query and never fails one.

    span ends -> bounded queue of the library -> its thread -> receiver

The library drops the oldest spans of a full queue without a count that a scraper sees. Here the newest are dropped
instead, before they enter it, and counted: `infaas_spans_dropped_total`. A batch that the receiver does not accept
within the exporter's timeout is dropped and counted, too.
"""

import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from process.tracing.metrics import EXPORTED, NOT_ACCEPTED, QUEUE_FULL

_CLOSE_S: Final = 2.0
"""Seconds for the last spans of a stopping process."""


class _CountingExporter(SpanExporter):
    """Exporter that counts; called by the library's thread only."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.taken = 0
        """Spans that have left the queue so far."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the receiver, within the exporter's timeout."""
        self.taken += len(spans)
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            (EXPORTED if result is SpanExportResult.SUCCESS else NOT_ACCEPTED).inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Close the exporter: what is exported later fails at once."""
        self._exporter.shutdown()


class BoundedExport(SpanProcessor):
    """Queue of ended spans before the exporter; spans end on one thread, the event loop's."""

    def __init__(self, exporter: SpanExporter, most: int, batch: int) -> None:
        """Hold at most `most` spans, and export up to `batch` at once."""
        self._exporter = _CountingExporter(exporter)
        self._most = most
        self._batches = BatchSpanProcessor(self._exporter, max_queue_size=most, max_export_batch_size=min(batch, most))
        self._entered = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Do nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span, or drop and count it if the queue is full."""
        if self._entered - self._exporter.taken >= self._most:
            QUEUE_FULL.inc()
            return
        self._entered += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Export the rest for a limited time, then drop it; blocks."""
        closing = threading.Thread(target=self._batches.shutdown, name="spans", daemon=True)
        closing.start()
        closing.join(_CLOSE_S)
        if closing.is_alive():  # the receiver does not answer
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export all queued spans now; blocks."""
        return self._batches.force_flush(timeout_millis)
