"""What Triton has beside the protocol and this system has not: its clients are told so as they expect to be.

There are no regions of shared memory: the list of them is empty, to forget one is done, to register one is refused,
since a query is computed wherever the system chooses. Triton's traces and logs are not how this system is watched.
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
    """Handlers of what is answered by saying that it is not there."""

    def __init__(self, models: ModelDirectory) -> None:
        self._models = models

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
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
        """Answer with the regions of shared memory: there are none."""
        return web.json_response([])

    async def forgotten(self, _request: web.Request) -> web.Response:
        """Answer that a region is not registered any more, as none is."""
        return web.json_response({})

    async def no_region(self, request: web.Request) -> web.Response:
        """Refuse to describe a region."""
        raise web.HTTPNotFound(reason=f"no region is called {request.match_info['region'][:80]!r}: {_NO_REGIONS}")

    async def no_memory(self, _request: web.Request) -> web.Response:
        """Refuse to register a region."""
        raise InvalidRequest(_NO_REGIONS)

    async def traces(self, request: web.Request) -> web.Response:
        """Refuse to tell or change what Triton traces."""
        name = request.match_info.get("name")
        if name is not None:
            models_for(request, self._models).find(name)
        raise InvalidRequest(_NO_TRACES)

    async def logs(self, _request: web.Request) -> web.Response:
        """Refuse to tell or change what Triton logs."""
        raise InvalidRequest(_NO_LOGS)
