"""Metadata of the server and its models: signature, config, readiness, statistics, repository index, API document.

Parts of Triton's API that are not supported are answered in the form that Triton's clients expect. There is no shared
memory, since queries are computed on other machines: the list of regions is empty, unregistering succeeds, registering
is refused. Triton's trace and log settings do not apply to this system.
"""

from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from gateway.http.answers import json_response
from gateway.http.authorization import models_for
from gateway.http.bodies import RequestBodies
from gateway.model_directory import (
    ModelDirectory,
    ServedModel,
    load_model,
    repository_index,
    server_metadata,
    unload_model,
)
from gateway.statistics import ModelStatisticsTable
from schemas.errors import InvalidRequest

_GATEWAY: Final = "infaas-gateway"
"""Header that names the process of the statistics: several may share a port."""
_NO_REGIONS: Final = (
    "shared memory is not supported: a query may be computed on another machine; send tensors in the request, as JSON "
    "or as binary data"
)
_NO_TRACES: Final = (
    "trace settings are not supported: send a `traceparent` header, which is passed on with the query; the answer to a "
    "sampled query has one, too"
)
_NO_LOGS: Final = "log settings are not supported over HTTP: set INFAAS_LOG_LEVEL of each process"


class _IndexBody(msgspec.Struct):
    """Body of a request for the index."""

    ready: bool = False


class _LoadBody(msgspec.Struct):
    """Body of Triton's request to load a model."""

    parameters: dict[str, Any] = {}


_Body = TypeVar("_Body", _IndexBody, _LoadBody)


class MetadataRoutes:
    """Handlers of all routes under /v2 that are neither queries nor jobs."""

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
            web.get("/v2", self._server_metadata),
            web.get("/v2/", self._server_metadata),
            web.get("/v2/models/stats", self._all_statistics),
            web.post("/v2/repository/index", self._index),
            web.post("/v2/repository/models/{name}/load", self._load),
            web.post("/v2/repository/models/{name}/unload", self._unload),
        ]
        for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            found += [
                web.get(path, self._metadata),
                web.get(f"{path}/ready", self._ready),
                web.get(f"{path}/config", self._config),
                web.get(f"{path}/stats", self._model_statistics),
            ]
        for path, refuse in (
            ("/v2/logging", self._refuse_logs),
            ("/v2/trace/setting", self._refuse_traces),
            ("/v2/models/{name}/trace/setting", self._refuse_traces),
        ):
            found += [web.get(path, refuse), web.post(path, refuse)]
        for memory in ("systemsharedmemory", "cudasharedmemory"):
            region = f"/v2/{memory}/region/{{region}}"
            found += [
                web.get(f"/v2/{memory}/status", self._no_regions),
                web.post(f"/v2/{memory}/unregister", self._unregistered),
                web.get(f"{region}/status", self._refuse_region),
                web.post(f"{region}/register", self._refuse_memory),
                web.post(f"{region}/unregister", self._unregistered),
            ]
        return found

    # -- the server ----------------------------------------------------------------------------------------------------
    async def _server_metadata(self, _request: web.Request) -> web.Response:
        return json_response(self._server)

    # -- models that the caller may use --------------------------------------------------------------------------------
    async def _metadata(self, request: web.Request) -> web.Response:
        return json_response(self._model(request).metadata())

    async def _config(self, request: web.Request) -> web.Response:
        return json_response(self._model(request).config())

    async def _ready(self, request: web.Request) -> web.Response:
        model = self._model(request)
        return json_response({"name": model.name, "ready": model.ready}, 200 if model.ready else 503)

    async def _model_statistics(self, request: web.Request) -> web.Response:
        return self._statistics_of([self._model(request)])

    async def _all_statistics(self, request: web.Request) -> web.Response:
        return self._statistics_of(models_for(request, self._models).versions())

    async def _index(self, request: web.Request) -> web.Response:
        only_ready = (await self._read(request, _IndexBody)).ready
        return json_response(repository_index(models_for(request, self._models), only_ready=only_ready))

    async def _load(self, request: web.Request) -> web.Response:
        load_model(self._model(request), changed=bool((await self._read(request, _LoadBody)).parameters))
        return json_response({})

    async def _unload(self, request: web.Request) -> web.Response:
        unload_model(self._model(request))

    def _statistics_of(self, models: Iterable[ServedModel]) -> web.Response:
        found = [self._statistics.of(model).as_triton() for model in models]
        return json_response({"model_stats": found}, headers={_GATEWAY: self._statistics.owner})

    async def _read(self, request: web.Request, kind: type[_Body]) -> _Body:
        async with self._bodies.reading(request.content, request.headers) as content:
            try:
                return msgspec.json.decode(content, type=kind) if content else kind()
            except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
                raise InvalidRequest(str(error)) from None

    def _model(self, request: web.Request) -> ServedModel:
        path = request.match_info
        return models_for(request, self._models).find(path["name"], path.get("version"))

    # -- unsupported parts of Triton's API -----------------------------------------------------------------------------
    async def _no_regions(self, _request: web.Request) -> web.Response:
        return web.json_response([])

    async def _unregistered(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def _refuse_region(self, request: web.Request) -> web.Response:
        raise web.HTTPNotFound(reason=f"no region is called {request.match_info['region'][:80]!r}: {_NO_REGIONS}")

    async def _refuse_memory(self, _request: web.Request) -> web.Response:
        raise InvalidRequest(_NO_REGIONS)

    async def _refuse_traces(self, request: web.Request) -> web.Response:
        if "name" in request.match_info:
            self._model(request)
        raise InvalidRequest(_NO_TRACES)

    async def _refuse_logs(self, _request: web.Request) -> web.Response:
        raise InvalidRequest(_NO_LOGS)
