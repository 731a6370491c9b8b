"""Spans of an instance for sampled queries: from the variant's topic to the acknowledged answer.

    queue infaas.variants.<variant>     from the selector's send to the start of the computation
    process infaas.variants.<variant>   from there to the acknowledged answer
      compute <variant>                 its batches, with a link to each
      generate <variant>                in place of them: an answer that is made token by token
      send <reply topic>                from the encoded answer to its acknowledgement; the result names this span
    batch <variant>                     a trace of its own, with links to the sampled queries that it held

A batch belongs to all of its queries alike, therefore to the trace of none.
"""

import time
from typing import Final

from broker.delivery.outbox import Message
from broker.kafka.types import Record
from process.tracing import conventions as names
from process.tracing.conventions import Operation, on_topic, span_name
from process.tracing.tracer import Kind, Span, Tracer
from schemas.errors import QueryError
from schemas.topics import is_reply_topic
from schemas.trace_context import TraceContext, with_traceparent
from workers.serving.computation import ComputedBatch
from workers.serving.pending_query import PendingQuery
from workers.slots.crash_journal import RecordKey, record_key

_MOST: Final = 1000
"""Maximum traced answers that wait for their acknowledgement: records of lost partitions are never acknowledged."""


class InstanceSpans:
    """Source of the spans of one instance."""

    def __init__(self, tracer: Tracer, variant: str, worker: str) -> None:
        self._tracer = tracer
        self._variant = variant
        self._worker = worker
        self._sending: dict[RecordKey, tuple[Span, Span]] = {}
        """Spans of processing and of sending, by the records whose answer is sent."""

    def computed(self, batch: ComputedBatch) -> dict[str, str] | None:
        """Make the spans of a computed batch. Return the labels of an exemplar; None: it holds no sampled query."""
        traced = self._processing(batch)
        if not traced or not batch.started_ns:
            return None
        started_ns, ended_ns = batch.started_ns, batch.started_ns + batch.compute_ns
        attributes: names.Attributes = {
            names.BATCH_COUNT: len(batch.parts),
            names.INPUTS: sum(part.inputs for part in batch.parts),
            names.VARIANT: self._variant,
            names.WORKER: self._worker,
            names.SLOT: batch.slot,
        }
        links = [span.context for span in traced]
        whole = self._tracer.begin(f"batch {self._variant}", None, started_ns, Kind.INTERNAL, attributes, links)
        whole.end(ended_ns)
        for context in links:
            self._tracer.record(f"compute {self._variant}", context, started_ns, ended_ns, attributes, [whole.context])
        return traced[0].exemplar

    def generated(self, query: PendingQuery, started_ns: int, ended_ns: int) -> dict[str, str] | None:
        """Make the span of an answer made token by token. Return the labels of an exemplar; None: it is not sampled."""
        processing = query.span or self._begin(query, started_ns)
        if processing is None:
            return None
        attributes: names.Attributes = {names.VARIANT: self._variant, names.WORKER: self._worker}
        self._tracer.record(f"generate {self._variant}", processing.context, started_ns, ended_ns, attributes)
        return processing.exemplar

    def answering(self, query: PendingQuery, message: Message, error: QueryError | None = None) -> None:
        """Begin the span of an answer that is to be sent; its headers then name this span."""
        processing = query.span or self._begin(query, time.monotonic_ns())
        if processing is None:
            return
        if error is not None:
            processing.fail(error.code.value, str(error))
        topic, temporary = message.topic, is_reply_topic(message.topic)
        attributes = on_topic(Operation.SEND, topic, query.id)
        attributes |= {names.TEMPORARY: temporary, names.REPLY_STREAM: bool(message.stream)}
        name = span_name(Operation.SEND, topic, temporary=temporary)
        now_ns = time.monotonic_ns()
        sending = self._tracer.begin(name, processing.context, now_ns, Kind.PRODUCER, attributes)
        message.headers[:] = with_traceparent(message.headers, sending.context.header)
        self._sending[record_key(query.record)] = processing, sending
        if len(self._sending) > _MOST:
            self._end(next(iter(self._sending)), "no acknowledgement is known")

    def done(self, record: Record, sent: Message | None) -> None:
        """End the spans of a record whose answer is acknowledged; None: it is a dead letter."""
        key = record_key(record)
        if key in self._sending:
            self._end(key, "" if sent is not None else "the query became a dead letter")

    def _end(self, key: RecordKey, problem: str) -> None:
        processing, sending = self._sending.pop(key)
        now_ns = time.monotonic_ns()
        if problem:
            sending.fail("not_acknowledged", problem)
        sending.end(now_ns)
        processing.end(now_ns)

    def _processing(self, batch: ComputedBatch) -> list[Span]:
        """Return the spans of the sampled queries of a batch, each once."""
        queries = dict.fromkeys(part.query for part in batch.parts)
        found = (query.span or self._begin(query, batch.started_ns or time.monotonic_ns()) for query in queries)
        return [span for span in found if span is not None]

    def _begin(self, query: PendingQuery, at_ns: int) -> Span | None:
        """Begin the span of a query's processing; None: the query is not sampled."""
        parent = self._tracer.parent(query.fields)
        if parent is None:
            return None
        record, topic = query.record, query.record.topic
        place: names.Attributes = {names.PARTITION: str(record.partition), names.OFFSET: record.offset}
        if query.sent_ns:
            self._record_queue(query, parent, at_ns, place)
        attributes = on_topic(Operation.PROCESS, topic, query.id) | place
        attributes |= {names.VARIANT: self._variant, names.WORKER: self._worker, names.INPUTS: query.batch}
        query.span = self._tracer.begin(span_name(Operation.PROCESS, topic), parent, at_ns, Kind.CONSUMER, attributes)
        return query.span

    def _record_queue(self, query: PendingQuery, parent: TraceContext, at_ns: int, place: names.Attributes) -> None:
        topic = query.record.topic
        attributes = on_topic(Operation.QUEUE, topic, query.id) | place
        self._tracer.record(span_name(Operation.QUEUE, topic), parent, min(query.sent_ns, at_ns), at_ns, attributes)
