"""Path of a query through the gateway, shared by all protocols: check, send, wait, count.

A protocol supplies the headers, named as in a record, and the body: an Open Inference Protocol request in JSON or with
binary tensors. It receives a result or a `QueryError`, which it encodes in its own form, with the headers that this
module derives from it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from math import ceil
from typing import Final, NamedTuple

import msgspec

from broker.replies.answer_stream import OnPart
from gateway.limits.arrivals import BodyBudget
from gateway.limits.backoff import RefusalBackoff
from gateway.limits.quotas import QuotaMeters
from gateway.model_directory import ServedModel
from gateway.query_client import QueryClient
from gateway.spans import begin_spans, mark_unsampled
from gateway.statistics import ModelStatisticsTable
from gateway.translation import Envelope, make_envelope
from process.tracing.tracer import Tracer
from schemas import headers as h
from schemas.access import Principal, QuotaUse
from schemas.errors import Overloaded, QueryError, QuotaExceeded, Unauthenticated
from schemas.result import OK, Result

_CHALLENGE: Final = 'Bearer realm="infaas"'
"""Authentication challenge for callers without credentials."""
_RETRY_AFTER_S: Final = 1.0
"""Default retry time of a refusal."""


class ArrivedRequest(NamedTuple):
    """A completely received request."""

    headers: Mapping[str, str]
    """Headers of the request, names in lower case."""
    body: bytes
    """Body; its bytes are charged to the `BodyBudget`."""


class Inference:
    """Executor of all queries of one gateway."""

    def __init__(
        self,
        query_client: QueryClient,
        statistics: ModelStatisticsTable,
        bodies: BodyBudget,
        quotas: QuotaMeters,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._quotas = quotas
        self._query_client = query_client
        self._statistics = statistics
        self._bodies = bodies
        self._backoff = RefusalBackoff()

    async def ask(
        self,
        model: ServedModel,
        principal: Principal,
        client: Hashable,
        arrive: Callable[[], Awaitable[ArrivedRequest]],
        on_part: OnPart | None = None,
    ) -> Result:
        """Execute one query once its request is complete. The caller cancels this when the client disconnects.

        Args:
            model: model named in the request.
            principal: caller.
            client: key of the client's connection.
            arrive: waits for the rest of the request; called only if the caller's quota permits the query.
            on_part: callback for the parts of a generative answer.

        Raises:
            QueryError: the query has no result; the error is for the client.
        """
        started = time.monotonic_ns()
        statistics = self._statistics.of(model)
        held = 0
        meter = spans = None
        try:
            meter = self._quotas.enter(principal, time.monotonic())
            headers, body = await arrive()
            held = len(body)
            spans = None if self._tracer is None else begin_spans(self._tracer, model, headers, started)
            query_client = self._query_client
            reply_to, new_id, now_ns = query_client.reply_topic, query_client.new_id(), query_client.clock.now_ns()
            envelope = make_envelope(model, principal, headers, body, reply_to, new_id, now_ns)
            if meter is not None:
                meter.charge(envelope.query.batch - 1)
            sending = time.monotonic_ns()
            if spans is not None:
                envelope = spans.send(envelope, sending)
            elif self._tracer is not None:
                mark_unsampled(envelope, headers)
            result = await self._result_of(model, envelope, on_part)
            if result.status != OK:
                raise result.failure(msgspec.Raw(result.explanation.encode()) if result.explanation else None)
            if spans is not None:
                result = spans.succeeded(result)
        except QueryError as error:
            if spans is not None:
                spans.failed(error)
            statistics.failed(error, time.monotonic_ns() - started, None if spans is None else spans.exemplar)
            await self._hold(client, started / 1e9, error)
            raise
        finally:
            self._bodies.release(held)
            if meter is not None:
                meter.leave()
            if spans is not None:
                spans.end()
        total_ns = time.monotonic_ns() - started
        exemplar = None if spans is None else spans.exemplar
        statistics.succeeded(result, envelope.query.batch, sending - started, total_ns, exemplar)
        return result

    async def ask_made(
        self,
        model: ServedModel,
        principal: Principal,
        client: Hashable,
        request: ArrivedRequest,
        on_part: OnPart | None = None,
    ) -> Result:
        """Execute one query whose request a protocol has made from another; otherwise like `ask`.

        The bytes of its body are charged here, once the quota permits the query.
        """

        async def arrive() -> ArrivedRequest:
            self._bodies.take(len(request.body))
            return request

        return await self.ask(model, principal, client, arrive, on_part)

    def _result_of(self, model: ServedModel, envelope: Envelope, on_part: OnPart | None) -> Awaitable[Result]:
        """Send a query; texts come in parts also if their client wants none.

        By the parts, the wait lasts as long as a text grows, and its worker learns that the client is gone.
        """
        if model.is_generative:
            envelope.headers.append((h.STREAM, b"true"))
            on_part = on_part or _ignore_part
        return self._query_client.ask(envelope, on_part)

    async def _hold(self, client: Hashable, asked_s: float, error: QueryError) -> None:
        """Delay a refusal to a client that did not wait as an earlier refusal demanded."""
        retry_after_s = retry_after_s_of(error)
        if retry_after_s is not None:
            held_s, error.retry_after_s = self._backoff.refuse(client, asked_s, retry_after_s, time.monotonic())
            if held_s:
                await asyncio.sleep(held_s)


def _ignore_part(_attempt: str, _number: int, _value: bytes) -> None:
    pass


def result_headers(result: Result) -> dict[str, str]:
    """Return the headers that describe a result: variant, worker, times, accuracy, cost, span if it is sampled."""
    fields = {
        h.ID: result.id,
        h.STATUS: result.status,
        h.VARIANT: result.variant,
        h.WORKER: result.worker,
        h.PREDICTED_NS: str(result.predicted_ns),
        h.TASK_QUEUE_NS: str(result.task_queue_ns),
        h.VARIANT_QUEUE_NS: str(result.variant_queue_ns),
        h.COMPUTE_NS: str(result.compute_ns),
    }
    if result.late:
        fields[h.LATE] = "true"
    if result.accuracy is not None:
        fields[h.ACCURACY] = str(result.accuracy)
    if result.cost is not None:
        fields[h.COST] = str(result.cost)
    if result.traceparent:
        fields[h.TRACEPARENT] = result.traceparent
    return fields


def error_headers(error: QueryError) -> dict[str, str]:
    """Return the headers that describe an error: code, reason, authentication challenge, quota, retry time, span."""
    fields = {h.STATUS: error.code.value}
    if error.reason is not None:
        fields[h.REASON] = error.reason.value
    if error.traceparent:
        fields[h.TRACEPARENT] = error.traceparent
    if isinstance(error, Unauthenticated):
        fields["WWW-Authenticate"] = _CHALLENGE
    if isinstance(error, QuotaExceeded) and error.use is not None:
        fields |= _rate_limit(error.use)
    retry_after_s = retry_after_s_of(error)
    if retry_after_s is not None:
        ms = ceil(retry_after_s * 1e3)
        fields |= {"Retry-After": str(max(ceil(ms / 1e3), 1)), h.RETRY_AFTER_MS: str(ms)}
    return fields


def retry_after_s_of(error: QueryError) -> float | None:
    """Return the seconds after which a retry may succeed; None: a retry will not help."""
    if error.retry_after_s is None and isinstance(error, Overloaded | QuotaExceeded):
        return _RETRY_AFTER_S
    return error.retry_after_s


def _rate_limit(use: QuotaUse) -> dict[str, str]:
    """Return the remaining quota as RateLimit fields (draft-ietf-httpapi-ratelimit-headers)."""
    of = 'qu="concurrent-requests"' if use.window_s is None else f"w={use.window_s}"
    return {
        "RateLimit-Policy": f'"{use.policy}";q={use.most};{of}',
        "RateLimit": f'"{use.policy}";r={use.left};t={ceil(use.reset_s)}',
    }
