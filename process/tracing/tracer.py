"""Tracer of one process: begins spans for sampled queries, and exports them in the background.

    gateway     enter    decides, or follows the client
    selector    follow   follows; decides for records without a decision
    worker      parent   follows

Rules.
* Only a sampled query costs more than a look at one header.
* Times are given by the monotonic clock, as call sites measure them, and exported by the wall clock of this machine:
  the spans of one machine fit together to microseconds, those of several machines as their clocks do. The difference of
  the two clocks is read at most once a second, so that the spans of a query are shifted alike.
* `tracestate` passes through the headers unchanged. It is not exported, because its parser logs what clients write.
* The library's sampler is not asked: a span that is begun is exported.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from process.tracing.conventions import ERROR_TYPE, SCHEMA_URL, Attributes
from process.tracing.metrics import LIMITED
from process.tracing.sampling import Sampling, TraceLimit, sampled_parent
from process.tracing.settings import TracingSettings, read_tracing_settings
from process.version import version
from schemas.errors import OperatorError
from schemas.headers import TRACEPARENT
from schemas.trace_context import TraceContext, is_sampled, parse_traceparent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as LibrarySpan
    from opentelemetry.trace import SpanContext

_READ_AGAIN_NS: Final = 1_000_000_000
_READINGS: Final = 3


class Kind(StrEnum):
    """Kind of a span, by the names of the library."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Entry(NamedTuple):
    """A sampled query that enters this process."""

    parent: TraceContext | None
    """Span that the query came from; None: its trace begins here."""


class Span:
    """A span that has begun; used within one thread."""

    __slots__ = ("_span", "_tracer", "context")

    def __init__(self, tracer: "Tracer", span: "LibrarySpan") -> None:
        self._tracer = tracer
        self._span = span
        found = span.get_span_context()
        self.context = TraceContext(found.trace_id, found.span_id, sampled=True)
        """Name of this span, for its children."""

    def set(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def fail(self, code: str, message: str) -> None:
        """Mark the span as failed, with an error code of ours."""
        self._tracer.mark_failed(self._span, code, message)

    def end(self, at_ns: int | None = None) -> None:
        """End the span at a time of the monotonic clock, by default now; a second call has no effect."""
        if self._span.is_recording():
            self._span.end(self._tracer.epoch_ns(time.monotonic_ns() if at_ns is None else at_ns))

    @property
    def exemplar(self) -> dict[str, str]:
        """Labels of an exemplar in a metric that lead to this span."""
        return {"trace_id": f"{self.context.trace_id:032x}", "span_id": f"{self.context.span_id:016x}"}


class Tracer:
    """Source of the spans of one process, used within its event loop."""

    def __init__(self, settings: TracingSettings, provider: "TracerProvider") -> None:
        from opentelemetry import context, trace

        self._library = trace
        self._context = context.Context
        self._tracer = provider.get_tracer("infaas", version(), schema_url=SCHEMA_URL)
        self._sampling = Sampling(settings.sampler, settings.ratio)
        self._limit = TraceLimit(settings.most_per_s, time.monotonic())
        self._flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._kinds = {kind: trace.SpanKind[kind.value] for kind in Kind}
        self._offset_ns = _wall_offset_ns()
        self._read_at_ns = time.monotonic_ns()

    # -- sampling ------------------------------------------------------------------------------------------------------

    def enter(self, fields: Mapping[str, str]) -> Entry | None:
        """Decide about a query that enters the system with these headers; None: it is not sampled."""
        traceparent = fields.get(TRACEPARENT)
        parent = parse_traceparent(traceparent) if traceparent else None
        follows = parent is not None and self._sampling.parent_based
        if not (parent.sampled if follows and parent is not None else self._draw()):
            return None
        return self._admitted(parent)

    def follow(self, fields: Mapping[str, str], *, decided: bool = False) -> Entry | None:
        """Follow the decision in these headers, or decide if there is none; None: it is not sampled.

        `decided`: the sender would have sent a header, had it sampled the query.
        """
        traceparent = fields.get(TRACEPARENT)
        if traceparent:
            if not is_sampled(traceparent):
                return None
            parent = parse_traceparent(traceparent)
            if parent is not None:
                return self._admitted(parent)
        return self._admitted(None) if not decided and self._draw() else None

    @staticmethod
    def parent(fields: Mapping[str, str]) -> TraceContext | None:
        """Return the span in these headers if it is sampled; else None."""
        traceparent = fields.get(TRACEPARENT)
        return sampled_parent(traceparent) if traceparent else None

    @staticmethod
    def unsampled(traceparent: str) -> bytes:
        """Return a header that replaces a client's, which marks its query as sampled."""
        parent = parse_traceparent(traceparent)
        return b"" if parent is None else parent._replace(sampled=False).header

    def _draw(self) -> bool:
        return random.random() < self._sampling.ratio

    def _admitted(self, parent: TraceContext | None) -> Entry | None:
        if self._limit.take(time.monotonic()):
            return Entry(parent)
        LIMITED.inc()
        return None

    # -- spans ---------------------------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        parent: TraceContext | None,
        at_ns: int,
        kind: Kind = Kind.INTERNAL,
        attributes: Attributes | None = None,
        links: Sequence[TraceContext] = (),
    ) -> Span:
        """Begin a span at a time of the monotonic clock; without a parent it begins a trace."""
        trace, context = self._library, self._context()
        if parent is not None:
            context = trace.set_span_in_context(trace.NonRecordingSpan(self._named(parent)), context)
        linked = [trace.Link(self._named(link)) for link in links]
        began_ns = self.epoch_ns(at_ns)
        return Span(self, self._tracer.start_span(name, context, self._kinds[kind], attributes, linked, began_ns))

    def record(
        self,
        name: str,
        parent: TraceContext,
        at_ns: int,
        end_ns: int,
        attributes: Attributes,
        links: Sequence[TraceContext] = (),
    ) -> None:
        """Make an internal span that is over."""
        self.begin(name, parent, at_ns, Kind.INTERNAL, attributes, links).end(max(at_ns, end_ns))

    def mark_failed(self, span: "LibrarySpan", code: str, message: str) -> None:
        """Mark a span of the library as failed."""
        span.set_attribute(ERROR_TYPE, code)
        span.set_status(self._library.Status(self._library.StatusCode.ERROR, message))

    def epoch_ns(self, monotonic_ns: int) -> int:
        """Return a time of the monotonic clock by the wall clock, in ns since the epoch."""
        if monotonic_ns - self._read_at_ns > _READ_AGAIN_NS:
            self._offset_ns, self._read_at_ns = _wall_offset_ns(), monotonic_ns
        return monotonic_ns + self._offset_ns

    def _named(self, span: TraceContext) -> "SpanContext":
        return self._library.SpanContext(span.trace_id, span.span_id, is_remote=span.remote, trace_flags=self._flags)


def _wall_offset_ns() -> int:
    """Return the wall clock less the monotonic clock, from the reading that was least interrupted."""
    best, shortest = 0, 0
    for _ in range(_READINGS):
        before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        if not shortest or after - before < shortest:
            best, shortest = wall - (before + after) // 2, max(after - before, 1)
    return best


@asynccontextmanager
async def open_tracer(service: str, instance: str) -> AsyncGenerator[Tracer | None]:
    """Open the tracer of a service's process, by its environment; None if traces are off, which is the default.

    At the end, the last spans are exported for at most two seconds.

    Raises:
        OperatorError: a setting is invalid, or the packages of the extra `tracing` are not installed.
    """
    settings = read_tracing_settings()
    if not settings.on:
        yield None
        return
    provider = await asyncio.to_thread(_provider, settings, service, instance)
    try:
        yield Tracer(settings, provider)
    finally:
        await asyncio.to_thread(provider.shutdown)


def _provider(settings: TracingSettings, service: str, instance: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    except ImportError as error:
        raise OperatorError(f"OTEL_TRACES_EXPORTER=otlp needs {error.name}: pip install 'infaas[tracing]'") from None
    from process.tracing.export import BoundedExport

    resource = Resource.create({"service.instance.id": instance, "service.version": version()})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": f"infaas-{service}", "service.namespace": "infaas"}))
    provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
    provider.add_span_processor(BoundedExport(_exporter(OTLPSpanExporter), settings.queue, settings.batch))
    return provider


def _exporter(kind: Any) -> Any:
    try:
        return kind()
    except ValueError as error:
        raise OperatorError(f"a variable OTEL_EXPORTER_OTLP_* is invalid: {error}") from None
