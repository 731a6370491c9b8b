"""A tracer whose ended spans stay in memory."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from process.tracing.settings import Sampler, TracingSettings
from process.tracing.tracer import Tracer


class KeptSpans:
    """A tracer, and the spans that have ended."""

    def __init__(self, sampler: Sampler = Sampler.PARENT_RATIO, ratio: float = 0.0, most_per_s: float = 1000.0) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        settings = TracingSettings().model_copy(update={"sampler": sampler, "ratio": ratio, "most_per_s": most_per_s})
        self.tracer = Tracer(settings, provider)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def attributes(self, name: str) -> dict[str, Any]:
        """Return the attributes of the only span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return dict(found.attributes or {})
