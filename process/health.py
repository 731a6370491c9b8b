"""Health of a service: its HTTP server for metrics and health, and detection of a hung process from outside.

`/metrics` is in the Prometheus text format, or in that of OpenMetrics, which has exemplars, if the scraper accepts it.
`/health/live` returns 503 if the service cannot recover. `/health/ready` returns 503 with a reason while the service
cannot work: before its start is complete, and while a dependency is unavailable.

A process that is stopped or whose event loop is blocked cannot report that itself; its liveness URL stops answering.
The limit is counted in unanswered requests rather than by the clock, since the observer may have been stopped, too.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from process.errors import listen_words
from schemas.errors import OperatorError

log = logging.getLogger(__name__)
_QUESTIONS: Final = 3
"""Consecutive unanswered requests after which a process counts as hung."""
_START_S: Final = 60.0
"""Seconds within which a new process must answer for the first time."""
_STARTING_INTERVAL_S: Final = 0.25


@asynccontextmanager
async def health_server(
    host: str, port: int, problem: Callable[[], Awaitable[str]], live: Callable[[], bool] = lambda: True
) -> AsyncGenerator[None]:
    """Serve metrics and health on `host:port` while the context is open; serve nothing if `port` is 0.

    The event loop of the service answers health requests, so a service with a blocked loop is not live. `problem`
    returns the reason why the service is not ready, or an empty text.

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
    """Handlers of the metrics and health paths of a service.

    `problem` returns the reason why the service is not ready, or an empty text.
    """

    def __init__(self, problem: Callable[[], Awaitable[str]], live: Callable[[], bool] = lambda: True) -> None:
        self._problem = problem
        self._live = live

    def routes(self, *folders: str) -> list[web.RouteDef]:
        """Return the routes for an application: metrics, and health under `/health` and each of `folders`."""
        found = [web.get("/metrics", self.metrics)]
        for folder in ("/health", *folders):
            found += [web.get(f"{folder}/live", self.live), web.get(f"{folder}/ready", self.ready)]
        return found

    async def live(self, _request: web.Request) -> web.Response:
        """Answer 200 if the process is live, else 503."""
        live = self._live()
        return web.json_response({"live": live}, status=200 if live else 503)

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer 200 if the service is ready, else 503 with the reason."""
        problem = await self._problem()
        return web.json_response({"ready": not problem, "reason": problem}, status=503 if problem else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer with the metrics in a format that the scraper accepts."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        text = await asyncio.to_thread(encode, REGISTRY)
        return web.Response(body=text, headers={"Content-Type": content_type})


async def wait_until_hung(url: str, limit_s: float) -> None:
    """Return when `url` has not answered 200 for `limit_s` (0: never return), or not at all in the first 60 s."""
    if not limit_s:
        await asyncio.Event().wait()
    period_s = limit_s / _QUESTIONS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=period_s)) as http:
        try:
            async with asyncio.timeout(_START_S):
                while not await responds(http, url):  # noqa: ASYNC110 - HTTP has no event to wait for
                    await asyncio.sleep(_STARTING_INTERVAL_S)
        except TimeoutError:
            return
        unanswered = 0
        while unanswered < _QUESTIONS:
            answered, _ = await asyncio.gather(responds(http, url), asyncio.sleep(period_s))
            unanswered = 0 if answered else unanswered + 1


async def responds(http: aiohttp.ClientSession, url: str) -> bool:
    """Return true if a GET of `url` answers 200."""
    try:
        async with http.get(url) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
