"""`POST /v2/models/{name}[/versions/{version}]/infer`: queries over HTTP."""

import asyncio
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, NamedTuple

from aiohttp import StreamReader, web

from gateway.auth.authenticator import Authenticator, tenant_of_request
from gateway.http.answers import HttpAnswer
from gateway.http.authorization import models_for, principal_of
from gateway.http.bodies import RequestBodies
from gateway.inference import ArrivedRequest, Inference, result_headers
from gateway.model_directory import ModelDirectory, ServedModel
from gateway.translation import with_needs
from schemas.access import Principal
from schemas.errors import Unauthenticated
from schemas.result import Result


class AuthorizedQuery(NamedTuple):
    """Model and caller of a query."""

    model: ServedModel
    principal: Principal


class InferenceRoutes:
    """Handlers that decode a query, execute it and encode its result."""

    def __init__(
        self, models: ModelDirectory, inference: Inference, bodies: RequestBodies, authenticator: Authenticator
    ) -> None:
        self._authenticator = authenticator
        self._models = models
        self._bodies = bodies
        self._inference = inference

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.post("/v2/models/{name}/infer", self.infer),
            web.post("/v2/models/{name}/versions/{version}/infer", self.infer),
        ]

    def authorized_query(
        self, path: str, headers: Mapping[str, str], certified: Sequence[str]
    ) -> AuthorizedQuery | None:
        """Return the model and the caller of a query at this path; None if aiohttp's router must handle the request.

        The router also handles unauthorized queries: the response is byte for byte the same whether the model exists or
        not.
        """
        try:
            principal = self._authenticator.principal(headers, certified)
        except Unauthenticated:
            return None
        if not principal.roles:
            return None
        model = self._models.seen_by(tenant_of_request(principal, headers)).find_by_path(path)
        return AuthorizedQuery(model, principal) if model is not None and principal.may_ask(model.task) else None

    async def infer(self, request: web.Request) -> web.Response:
        """Answer a query that aiohttp has routed here."""
        path = request.match_info
        model = models_for(request, self._models).find(path["name"], path.get("version"))
        headers = with_needs(request.headers, request.query)
        asked, client = AuthorizedQuery(model, principal_of(request)), client_of(request.transport)
        return (await self.answer(asked, client, headers, request.content)).response()

    async def answer(
        self, asked: AuthorizedQuery, client: Hashable, headers: Mapping[str, str], content: StreamReader
    ) -> HttpAnswer:
        """Answer one query. The caller cancels this when the client disconnects, which releases its memory.

        Raises:
            QueryError: the query has no result; the error is for the client.
            HTTPException: the body is too large, or does not arrive in time.
        """
        result = await self._inference.ask(*asked, client, lambda: self._arriving(headers, content))
        return HttpAnswer(200, http_result_headers(result), result.value)

    async def _arriving(self, headers: Mapping[str, str], content: StreamReader) -> ArrivedRequest:
        return ArrivedRequest(headers, await self._bodies.read(content, headers))


def client_of(transport: asyncio.BaseTransport | None) -> Hashable:
    """Return the key of the client at the other end of a connection."""
    return None if transport is None else transport.get_extra_info("peername")


_JSON_LENGTH: Final = "Inference-Header-Content-Length"


def http_result_headers(result: Result) -> dict[str, str]:
    """Return the headers of a response: content type, and the description of the result."""
    fields = {"Content-Type": result.content_type, **result_headers(result)}
    if result.json_length is not None:
        fields[_JSON_LENGTH] = str(result.json_length)
    return fields
