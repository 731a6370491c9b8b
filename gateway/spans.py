"""Spans of a gateway for sampled queries: one from the request to its answer, and below it that of the sent record.

    infer <model>                        from the request's headers to the result
      send infaas.tasks.<task>           until Kafka has acknowledged the record, which names this span

Selectors do not draw again for a gateway's records. The record of a query that is not sampled gets a header only where
its client's header says otherwise.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from broker.producing.producer import Ack
from gateway.model_directory import ServedModel
from gateway.translation import Envelope
from process.tracing import conventions as names
from process.tracing.conventions import Operation, of_query, on_topic, span_name
from process.tracing.tracer import Kind, Span, Tracer
from schemas import headers as h
from schemas.errors import QueryError
from schemas.result import Result
from schemas.trace_context import is_sampled, with_traceparent

_INTERNAL: Final = "internal"


class QuerySpans:
    """Spans of one sampled query."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    def send(self, envelope: Envelope, at_ns: int) -> Envelope:
        """Begin the span of the query's record. Return the envelope with a header that names it."""
        query, topic = envelope.query, envelope.topic
        self._span.set({names.MESSAGE_ID: query.id} | of_query(query))
        attributes = on_topic(Operation.SEND, topic, query.id)
        sending = self._tracer.begin(
            span_name(Operation.SEND, topic), self._span.context, at_ns, Kind.PRODUCER, attributes
        )

        def end(ack: asyncio.Future[Ack]) -> None:
            if ack.cancelled():
                sending.fail(_INTERNAL, "the record was not sent")
            elif (error := ack.exception()) is not None:
                sending.fail(type(error).__name__, str(error))
            else:
                sending.set({names.PARTITION: str(ack.result().partition), names.OFFSET: ack.result().offset})
            sending.end()

        return Envelope(topic, envelope.value, with_traceparent(envelope.headers, sending.context.header), query, end)

    def succeeded(self, result: Result) -> Result:
        """Describe the result. Return it with the header that names the query's span."""
        found: names.Attributes = {names.VARIANT: result.variant, names.WORKER: result.worker, names.LATE: result.late}
        if result.accuracy is not None:
            found[names.ACCURACY] = result.accuracy
        if result.cost is not None:
            found[names.COST] = result.cost
        self._span.set(found)
        return replace(result, traceparent=str(self._span.context))

    def failed(self, error: QueryError) -> None:
        """Describe an error, which gets the header that names the query's span."""
        self._span.fail(error.code.value, str(error))
        if error.reason is not None:
            self._span.set({names.REFUSAL: error.reason.value})
        error.traceparent = str(self._span.context)

    @property
    def exemplar(self) -> dict[str, str]:
        """Labels of an exemplar in a metric that lead to the query's span."""
        return self._span.exemplar

    def end(self) -> None:
        """End the span of the query."""
        self._span.end(time.monotonic_ns())


def begin_spans(tracer: Tracer, model: ServedModel, headers: Mapping[str, str], started_ns: int) -> QuerySpans | None:
    """Begin the span of a query whose request began at `started_ns`; None: the query is not sampled."""
    entry = tracer.enter(headers)
    if entry is None:
        return None
    attributes: names.Attributes = {names.MODEL: model.name, names.TASK: model.task}
    return QuerySpans(tracer, tracer.begin(f"infer {model.name}", entry.parent, started_ns, Kind.SERVER, attributes))


def mark_unsampled(envelope: Envelope, headers: Mapping[str, str]) -> None:
    """Have the record of a query that is not sampled say so, if its client's header says otherwise."""
    traceparent = headers.get(h.TRACEPARENT)
    if traceparent is not None and is_sampled(traceparent):
        envelope.headers[:] = with_traceparent(envelope.headers, Tracer.unsampled(traceparent))
