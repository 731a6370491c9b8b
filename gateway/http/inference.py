"""`POST /v2/models/{name}[/versions/{version}]/infer`: the main job over HTTP."""

import time
from collections.abc import Mapping
from typing import Final

from aiohttp import StreamReader, web

from gateway.http.answers import HttpAnswer
from gateway.http.request_bodies import RequestBodies
from gateway.http.translation import make_envelope, needs_in
from gateway.model_directory import ModelDirectory, ServedModel
from gateway.query_client import QueryClient
from gateway.statistics import ModelStatisticsTable
from schemas import headers as h
from schemas.errors import QueryError
from schemas.result import Result


class InferenceRoutes:
    """Handlers that decode a query, ask it and encode its result."""

    def __init__(
        self,
        models: ModelDirectory,
        query_client: QueryClient,
        statistics: ModelStatisticsTable,
        bodies: RequestBodies,
    ) -> None:
        self._models = models
        self._bodies = bodies
        self._query_client = query_client
        self._statistics = statistics

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
        return [
            web.post("/v2/models/{name}/infer", self.infer),
            web.post("/v2/models/{name}/versions/{version}/infer", self.infer),
        ]

    def asked_at(self, path: str) -> ServedModel | None:
        """The model that a query at this path asks, unless aiohttp's router has to find out."""
        return self._models.asked_at(path)

    async def infer(self, request: web.Request) -> web.Response:
        """Answer one query that aiohttp has routed here."""
        path = request.match_info
        model = self._models.find(path["name"], path.get("version"))
        headers = request.headers.copy()
        for header, text in needs_in(request.query).items():
            headers.setdefault(header, text)
        return (await self.answer(model, headers, request.content)).response()

    async def answer(self, model: ServedModel, headers: Mapping[str, str], content: StreamReader) -> HttpAnswer:
        """Answer one query. When the client goes away it is cancelled, which makes room.

        Raises:
            QueryError: there is no answer; what the client reads.
            HTTPException: the body is too large, or does not arrive.
        """
        started = time.monotonic_ns()
        statistics = self._statistics.of(model)
        held = 0
        try:
            body = await self._bodies.read(content, headers)
            held = len(body)
            query_client = self._query_client
            reply_to, new_id, now_ns = query_client.reply_topic, query_client.new_id(), query_client.clock.now_ns()
            envelope = make_envelope(model, headers, body, reply_to, new_id, now_ns)
            sending = time.monotonic_ns()
            result = await query_client.ask(envelope)
            failure = result.error()
            if failure is not None:
                raise failure
        except QueryError as error:
            statistics.failed(error, time.monotonic_ns() - started)
            raise
        finally:
            self._bodies.release(held)
        total_ns = time.monotonic_ns() - started
        statistics.succeeded(result, envelope.query.batch, sending - started, total_ns)
        return HttpAnswer(200, result_headers(result), result.value)


_JSON_LENGTH: Final = "Inference-Header-Content-Length"


def result_headers(result: Result) -> dict[str, str]:
    """The headers that tell how an answer came about."""
    fields = {
        "Content-Type": result.content_type,
        h.ID: result.id,
        h.STATUS: result.status,
        h.VARIANT: result.variant,
        h.WORKER: result.worker,
        h.PREDICTED_NS: str(result.predicted_ns),
        h.TASK_QUEUE_NS: str(result.task_queue_ns),
        h.VARIANT_QUEUE_NS: str(result.variant_queue_ns),
        h.COMPUTE_NS: str(result.compute_ns),
    }
    if result.json_length is not None:
        fields[_JSON_LENGTH] = str(result.json_length)
    if result.accuracy is not None:
        fields[h.ACCURACY] = str(result.accuracy)
    if result.cost is not None:
        fields[h.COST] = str(result.cost)
    return fields
