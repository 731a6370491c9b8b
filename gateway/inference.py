"""Path of a query through the gateway, shared by all protocols: check, send, wait, count.

A protocol supplies the headers, named as in a record, and the body: an Open Inference Protocol request in JSON or with
binary tensors. It receives a result or a `QueryError`, which it encodes in its own form.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import NamedTuple

import msgspec

from gateway.limits.backoff import RefusalBackoff
from gateway.limits.memory import BodyBudget
from gateway.model_directory import ServedModel
from gateway.query_client import QueryClient
from gateway.refusals import retry_after_s_of
from gateway.statistics import ModelStatisticsTable
from gateway.translation import make_envelope
from schemas import headers as h
from schemas.errors import QueryError
from schemas.principal import Principal
from schemas.result import OK, Result
from security.quotas import QuotaMeters


class ArrivedRequest(NamedTuple):
    """A completely received request."""

    headers: Mapping[str, str]
    """Headers of the request, names in lower case."""
    body: bytes
    """Body; its bytes are charged to the `BodyBudget`."""


class Inference:
    """Executor of all queries of one gateway."""

    def __init__(
        self, query_client: QueryClient, statistics: ModelStatisticsTable, bodies: BodyBudget, quotas: QuotaMeters
    ) -> None:
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
    ) -> Result:
        """Execute one query once its request is complete. The caller cancels this when the client disconnects.

        Args:
            model: model named in the request.
            principal: caller.
            client: key of the client's connection.
            arrive: waits for the rest of the request; called only if the caller's quota permits the query.

        Raises:
            QueryError: the query has no result; the error is for the client.
        """
        started = time.monotonic_ns()
        statistics = self._statistics.of(model)
        held = 0
        meter = None
        try:
            meter = self._quotas.enter(principal, time.monotonic())
            headers, body = await arrive()
            held = len(body)
            query_client = self._query_client
            reply_to, new_id, now_ns = query_client.reply_topic, query_client.new_id(), query_client.clock.now_ns()
            envelope = make_envelope(model, principal, headers, body, reply_to, new_id, now_ns)
            if meter is not None:
                meter.charge(envelope.query.batch - 1)
            sending = time.monotonic_ns()
            result = await query_client.ask(envelope)
            if result.status != OK:
                raise result.failure(msgspec.Raw(result.explanation.encode()) if result.explanation else None)
        except QueryError as error:
            statistics.failed(error, time.monotonic_ns() - started)
            await self._hold(client, started / 1e9, error)
            raise
        finally:
            self._bodies.release(held)
            if meter is not None:
                meter.leave()
        total_ns = time.monotonic_ns() - started
        statistics.succeeded(result, envelope.query.batch, sending - started, total_ns)
        return result

    async def _hold(self, client: Hashable, asked_s: float, error: QueryError) -> None:
        """Delay a refusal to a client that did not wait as an earlier refusal demanded."""
        retry_after_s = retry_after_s_of(error)
        if retry_after_s is not None:
            held_s, error.retry_after_s = self._backoff.refuse(client, asked_s, retry_after_s, time.monotonic())
            if held_s:
                await asyncio.sleep(held_s)


def result_headers(result: Result) -> dict[str, str]:
    """Return the headers that describe a result: variant, worker, times, accuracy, cost."""
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
    return fields
