"""The small HTTP server through which a service without one of its own is watched.

`/metrics` in the Prometheus text format; `/health/live`, which is 503 once the service says that it cannot go on; and
`/health/ready`, which is 503, with the reason, while the service cannot do its work: until it has begun, and while what
it cannot do without is away.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from process.os_errors import listen_words
from schemas.errors import OperatorError

log = logging.getLogger(__name__)


@asynccontextmanager
async def health_server(
    host: str, port: int, problem: Callable[[], Awaitable[str]], live: Callable[[], bool] = lambda: True
) -> AsyncGenerator[None]:
    """Serve metrics and health on `host:port` while the context is open; `port` 0 serves nothing.

    Health is served by the service's own event loop: one that stands still answers nothing, so it is not live.
    `problem` says why the service is not ready; nothing if it is.

    Raises:
        OperatorError: the port is taken.
    """
    if port == 0:
        yield
        return
    app = web.Application()
    app.add_routes(HealthRoutes(problem, live).routes())
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise OperatorError(listen_words(host, port, error, "--metrics-port")) from error
    try:
        yield
    finally:
        await runner.cleanup()


class HealthRoutes:
    """Handlers of the paths by which a service is watched.

    `problem` says why the service is not ready; nothing if it is.
    """

    def __init__(self, problem: Callable[[], Awaitable[str]], live: Callable[[], bool] = lambda: True) -> None:
        self._problem = problem
        self._live = live

    def routes(self, *folders: str) -> list[web.RouteDef]:
        """Routes to add to an application, those of health under `/health` and these folders."""
        found = [web.get("/metrics", self.metrics)]
        for folder in ("/health", *folders):
            found += [web.get(f"{folder}/live", self.live), web.get(f"{folder}/ready", self.ready)]
        return found

    async def live(self, _request: web.Request) -> web.Response:
        """Answer that the process can go on."""
        live = self._live()
        return web.json_response({"live": live}, status=200 if live else 503)

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer whether the service can do its work, or else why not."""
        problem = await self._problem()
        return web.json_response({"ready": not problem, "reason": problem}, status=503 if problem else 200)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer with the metrics in the Prometheus text format."""
        text = await asyncio.to_thread(generate_latest)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
