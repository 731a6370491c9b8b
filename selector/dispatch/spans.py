"""Spans of a selector for sampled queries: their time in the task's topic, and the decision.

    queue infaas.tasks.<task>       from the sender's send to the decision
    process infaas.tasks.<task>     the decision, until the record is handed to the producer; the record names this span

The span of a decision lists the candidates and why each lost, in the words of `infaas explain`. To find them takes as
long as there are variants, so that they are left out while this would take more than a hundredth of the time.
"""

import time
from typing import Final

from process.tracing import conventions as names
from process.tracing.conventions import Operation, of_query, on_topic, span_name
from process.tracing.tracer import Kind, Span, Tracer
from schemas.headers import TRACEPARENT, RawHeaders
from schemas.query import Query
from schemas.topics import is_gateways_reply_topic
from schemas.trace_context import is_sampled, with_traceparent
from selector.admission.received_query import ReceivedQuery
from selector.dispatch.explanation import ConsideredVariant, explanation_of
from selector.policy.choice import Choice, PolicyConfig, Refusal
from selector.policy.cluster_state import ClusterState

_SHARE: Final = 0.01
"""Share of the time that explanations for spans may take."""


class DecisionSpans:
    """Source of the spans of one selector."""

    def __init__(self, tracer: Tracer, state: ClusterState, config: PolicyConfig) -> None:
        self._tracer = tracer
        self._state = state
        self._config = config
        self._explains_at_s = 0.0

    def begin(self, received: ReceivedQuery, now: float) -> "tuple[DecisionSpan | None, RawHeaders]":
        """Begin the spans of a query that is decided on; None: it is not sampled. Return the headers to pass on."""
        by_gateway = is_gateways_reply_topic(received.query.reply_to)
        entry = self._tracer.follow(received.fields, decided=by_gateway)
        if entry is None:
            return None, self._unsampled(received)
        query, record, now_ns = received.query, received.record, int(now * 1e9)
        topic, sent_ns = record.topic, min(int(query.sent_ms * 1e6), now_ns)
        place: names.Attributes = {names.PARTITION: str(record.partition), names.OFFSET: record.offset}
        queued = on_topic(Operation.QUEUE, topic, query.id) | place
        queue = self._tracer.begin(span_name(Operation.QUEUE, topic), entry.parent, sent_ns, Kind.INTERNAL, queued)
        queue.end(now_ns)
        parent = entry.parent or queue.context  # the trace of a sender without spans begins with its record
        attributes = on_topic(Operation.PROCESS, topic, query.id) | place | of_query(query)
        attributes |= {names.TASK: query.task, names.ATTEMPT: received.attempts}
        span = self._tracer.begin(span_name(Operation.PROCESS, topic), parent, now_ns, Kind.CONSUMER, attributes)
        return DecisionSpan(self, span), with_traceparent(received.headers, span.context.header)

    def considered(self, query: Query, outcome: Choice | Refusal, now: float) -> names.Attributes:
        """Return the reason of an outcome and the candidates, in words; empty while this would take too long."""
        began_s = time.monotonic()
        if began_s < self._explains_at_s:
            return {}
        found = explanation_of(query, self._state, now, self._config, outcome)
        ended_s = time.monotonic()
        self._explains_at_s = ended_s + (ended_s - began_s) / _SHARE
        return {names.REASON: found.reason, names.CONSIDERED: [_in_words(row) for row in found.considered]}

    @staticmethod
    def _unsampled(received: ReceivedQuery) -> RawHeaders:
        """Return the headers of a query that is not traced here, and therefore nowhere behind."""
        traceparent = received.fields.get(TRACEPARENT)
        if traceparent is None or not is_sampled(traceparent):
            return received.headers
        return with_traceparent(received.headers, Tracer.unsampled(traceparent))


class DecisionSpan:
    """Span of one decision; it ends with the method that names its outcome."""

    def __init__(self, spans: DecisionSpans, span: Span) -> None:
        self._spans = spans
        self._span = span

    def forwarded(self, query: Query, choice: Choice, now: float) -> None:
        """End the span of a query that was forwarded."""
        found: names.Attributes = {
            names.VARIANT: choice.variant.name,
            names.PREDICTED_MS: round(choice.predicted_s * 1e3, 3),
            names.ACCURACY: choice.variant.accuracy,
            names.COST: choice.cost,
        }
        if choice.instance is not None:
            found[names.WORKER] = choice.instance.worker.name
        self._span.set(found | self._spans.considered(query, choice, now))
        self._span.end()

    def refused(self, query: Query, refusal: Refusal, now: float) -> None:
        """End the span of a query that was refused."""
        error = refusal.error
        self._span.fail(error.code.value, str(error))
        found: names.Attributes = {} if error.reason is None else {names.REFUSAL: error.reason.value}
        self._span.set(found | self._spans.considered(query, refusal, now))
        self._span.end()


def _in_words(row: ConsideredVariant) -> str:
    where = f" on {row.worker}" if row.worker else ""
    predicted = "" if row.predicted_ms is None else f", predicted {row.predicted_ms:g} ms"
    return f"{row.variant}{where}: {row.verdict}{predicted}"
