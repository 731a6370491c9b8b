"""Parts of Triton's API that are not supported, answered in the form that Triton's clients expect.

There is no shared memory, since queries are computed on other machines: the list of regions is empty, unregistering
succeeds, registering is refused. Triton's trace and log settings do not apply to this system.
"""

from typing import Final

from aiohttp import web

from gateway.http.authorization import models_for
from gateway.model_directory import ModelDirectory
from schemas.errors import InvalidRequest

SHARED_MEMORIES: Final = ("systemsharedmemory", "cudasharedmemory")
_NO_REGIONS: Final = (
    "shared memory is not supported: a query may be computed on another machine; send tensors in the request, as JSON "
    "or as binary data"
)
_NO_TRACES: Final = (
    "trace settings are not supported: send a `traceparent` header, and whatever follows from the query carries it on"
)
_NO_LOGS: Final = "log settings are not supported over HTTP: the settings of each process say what it logs"


class UnofferedRoutes:
    """Handlers of unsupported routes."""

    def __init__(self, models: ModelDirectory) -> None:
        self._models = models

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        found = [web.get("/v2/logging", self.logs), web.post("/v2/logging", self.logs)]
        for path in ("/v2/trace/setting", "/v2/models/{name}/trace/setting"):
            found += [web.get(path, self.traces), web.post(path, self.traces)]
        for memory in SHARED_MEMORIES:
            region = f"/v2/{memory}/region/{{region}}"
            found += [
                web.get(f"/v2/{memory}/status", self.no_regions),
                web.post(f"/v2/{memory}/unregister", self.forgotten),
                web.get(f"{region}/status", self.no_region),
                web.post(f"{region}/register", self.no_memory),
                web.post(f"{region}/unregister", self.forgotten),
            ]
        return found

    async def no_regions(self, _request: web.Request) -> web.Response:
        """Answer with the regions of shared memory: none."""
        return web.json_response([])

    async def forgotten(self, _request: web.Request) -> web.Response:
        """Answer that a region is unregistered, as none ever is registered."""
        return web.json_response({})

    async def no_region(self, request: web.Request) -> web.Response:
        """Refuse to describe a region."""
        raise web.HTTPNotFound(reason=f"no region is called {request.match_info['region'][:80]!r}: {_NO_REGIONS}")

    async def no_memory(self, _request: web.Request) -> web.Response:
        """Refuse to register a region."""
        raise InvalidRequest(_NO_REGIONS)

    async def traces(self, request: web.Request) -> web.Response:
        """Refuse to return or change Triton's trace settings."""
        name = request.match_info.get("name")
        if name is not None:
            models_for(request, self._models).find(name)
        raise InvalidRequest(_NO_TRACES)

    async def logs(self, _request: web.Request) -> web.Response:
        """Refuse to return or change Triton's log settings."""
        raise InvalidRequest(_NO_LOGS)
