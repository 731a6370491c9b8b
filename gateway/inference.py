"""The one way of a query through a gateway, by whichever protocol it came: check it, ask the queues, count how it went.

A protocol makes two things of what its clients send: headers by their names in a record, and a body that is an Open
Inference Protocol request in JSON or with binary tensors. What comes back is a result or a `QueryError`, which it puts
into its own words.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import NamedTuple

import msgspec

from gateway.model_directory import ServedModel
from gateway.query_client import QueryClient
from gateway.refusals import retry_after_s_of
from gateway.request_room import RequestRoom
from gateway.retry_pacing import RetryPacing
from gateway.statistics import ModelStatisticsTable
from gateway.translation import make_envelope
from schemas import headers as h
from schemas.errors import QueryError
from schemas.principal import Principal
from schemas.result import OK, Result
from security.quotas import QuotaMeters


class ArrivedRequest(NamedTuple):
    """A request that is whole."""

    headers: Mapping[str, str]
    """What the client says beside the body, names in lower case."""
    body: bytes
    """Bytes that have been taken room for."""


class Inference:
    """Asker of all queries of one gateway."""

    def __init__(
        self, query_client: QueryClient, statistics: ModelStatisticsTable, room: RequestRoom, quotas: QuotaMeters
    ) -> None:
        self._quotas = quotas
        self._query_client = query_client
        self._statistics = statistics
        self._room = room
        self._retry_pacing = RetryPacing()

    async def ask(
        self,
        model: ServedModel,
        principal: Principal,
        client: Hashable,
        arrive: Callable[[], Awaitable[ArrivedRequest]],
    ) -> Result:
        """Answer one query as soon as it is whole. When the client goes away this is cancelled, which makes room.

        Args:
            model: what is asked.
            principal: who asks.
            client: the connection that it came by.
            arrive: waits for the rest of the request, unless they have used up their quota.

        Raises:
            QueryError: there is no answer; what the client reads.
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
            self._room.release(held)
            if meter is not None:
                meter.leave()
        total_ns = time.monotonic_ns() - started
        statistics.succeeded(result, envelope.query.batch, sending - started, total_ns)
        return result

    async def _hold(self, client: Hashable, asked_s: float, error: QueryError) -> None:
        """Hold a refusal back from a client that has not waited as it was told."""
        retry_after_s = retry_after_s_of(error)
        if retry_after_s is not None:
            held_s, error.retry_after_s = self._retry_pacing.refuse(client, asked_s, retry_after_s, time.monotonic())
            if held_s:
                await asyncio.sleep(held_s)


def result_headers(result: Result) -> dict[str, str]:
    """The headers that tell a client how an answer came about."""
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
