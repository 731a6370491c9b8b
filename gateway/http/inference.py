"""`POST /v2/models/{name}[/versions/{version}]/infer`: the main job over HTTP."""

from collections.abc import Mapping
from typing import Final

from aiohttp import StreamReader, web

from gateway.http.answers import HttpAnswer
from gateway.http.request_bodies import RequestBodies
from gateway.inference import ArrivedRequest, Inference, result_headers
from gateway.model_directory import ModelDirectory, ServedModel
from gateway.tenants import tenant_asking
from gateway.translation import needs_in
from schemas.result import Result


class InferenceRoutes:
    """Handlers that decode a query, ask it and encode its result."""

    def __init__(self, models: ModelDirectory, inference: Inference, bodies: RequestBodies) -> None:
        self._models = models
        self._bodies = bodies
        self._inference = inference

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
        return [
            web.post("/v2/models/{name}/infer", self.infer),
            web.post("/v2/models/{name}/versions/{version}/infer", self.infer),
        ]

    def asked_at(self, path: str, headers: Mapping[str, str]) -> ServedModel | None:
        """The model that a query at this path asks, unless aiohttp's router has to find out."""
        return self._models.seen_by(tenant_asking(headers)).asked_at(path)

    async def infer(self, request: web.Request) -> web.Response:
        """Answer one query that aiohttp has routed here."""
        path = request.match_info
        model = self._models.seen_by(tenant_asking(request.headers)).find(path["name"], path.get("version"))
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
        result = await self._inference.ask(model, self._arriving(headers, content))
        return HttpAnswer(200, http_result_headers(result), result.value)

    async def _arriving(self, headers: Mapping[str, str], content: StreamReader) -> ArrivedRequest:
        return ArrivedRequest(headers, await self._bodies.read(content, headers))


_JSON_LENGTH: Final = "Inference-Header-Content-Length"


def http_result_headers(result: Result) -> dict[str, str]:
    """The headers of an answer: what its body is, and how it came about."""
    fields = {"Content-Type": result.content_type, **result_headers(result)}
    if result.json_length is not None:
        fields[_JSON_LENGTH] = str(result.json_length)
    return fields
