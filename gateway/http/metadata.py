"""Metadata of the server and its models: signature, config, readiness, statistics, and the repository index."""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from gateway.http.authorization import models_for
from gateway.http.request_bodies import RequestBodies
from gateway.model_directory import ModelDirectory, ServedModel, ServedModels
from gateway.repository import load_model, repository_index, server_metadata, unload_model
from gateway.statistics import ModelStatisticsTable
from schemas.errors import InvalidRequest
from schemas.oip import JSON

_GATEWAY: Final = "infaas-gateway"
"""Header that names the process of the statistics: several may share a port."""
_encode: Final = msgspec.json.Encoder().encode


class _IndexBody(msgspec.Struct):
    """Body of a request for the index."""

    ready: bool = False


class _LoadBody(msgspec.Struct):
    """Body of Triton's request to load a model."""

    parameters: dict[str, Any] = {}


_Body = TypeVar("_Body", _IndexBody, _LoadBody)


class MetadataRoutes:
    """Handlers of all routes under /v2 that are no queries."""

    def __init__(
        self, models: ModelDirectory, statistics: ModelStatisticsTable, bodies: RequestBodies, version: str
    ) -> None:
        self._models = models
        self._bodies = bodies
        self._statistics = statistics
        self._server = server_metadata(version)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        found = [
            web.get("/v2", self.server),
            web.get("/v2/", self.server),
            web.get("/v2/models/stats", self.all_statistics),
            web.post("/v2/repository/index", self.index),
            web.post("/v2/repository/models/{name}/load", self.load),
            web.post("/v2/repository/models/{name}/unload", self.unload),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                web.get(path, self.metadata),
                web.get(f"{path}/ready", self.ready),
                web.get(f"{path}/config", self.config),
                web.get(f"{path}/stats", self.statistics),
            ]
        return found

    async def server(self, _request: web.Request) -> web.Response:
        """Answer with the server's name, version and extensions."""
        return _json(self._server)

    async def metadata(self, request: web.Request) -> web.Response:
        """Answer with the signature of a model."""
        return _json(self._model(request).metadata())

    async def config(self, request: web.Request) -> web.Response:
        """Answer with the signature and largest batch in Triton's format."""
        return _json(self._model(request).config())

    async def ready(self, request: web.Request) -> web.Response:
        """Answer 200 if a model is ready, else 503."""
        model = self._model(request)
        return _json({"name": model.name, "ready": model.ready}, 200 if model.ready else 503)

    async def statistics(self, request: web.Request) -> web.Response:
        """Answer with the statistics of one model."""
        return self._of([self._model(request)])

    async def all_statistics(self, request: web.Request) -> web.Response:
        """Answer with the statistics of each model."""
        return self._of(self._seen(request).versions())

    async def index(self, request: web.Request) -> web.Response:
        """Answer with all models, or with the ready ones for `{"ready": true}`."""
        only_ready = (await self._read(request, _IndexBody)).ready
        return _json(repository_index(self._seen(request), only_ready=only_ready))

    async def load(self, request: web.Request) -> web.Response:
        """Check that a model can be loaded; queries cause it to be loaded."""
        load_model(self._model(request), changed=bool((await self._read(request, _LoadBody)).parameters))
        return _json({})

    async def unload(self, request: web.Request) -> web.Response:
        """Refuse the request: load and cost decide which variants are loaded."""
        unload_model(self._model(request))

    def _of(self, models: Iterable[ServedModel]) -> web.Response:
        response = _json({"model_stats": [self._statistics.of(model).as_triton() for model in models]})
        response.headers[_GATEWAY] = self._statistics.owner
        return response

    async def _read(self, request: web.Request, kind: type[_Body]) -> _Body:
        content = await self._bodies.read(request.content, request.headers)
        try:
            return msgspec.json.decode(content, type=kind) if content else kind()
        except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
            raise InvalidRequest(str(error)) from None
        finally:
            self._bodies.release(len(content))

    def _model(self, request: web.Request) -> ServedModel:
        path = request.match_info
        return self._seen(request).find(path["name"], path.get("version"))

    def _seen(self, request: web.Request) -> ServedModels:
        return models_for(request, self._models)


def _json(content: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(content), status=status, content_type=JSON)
