"""The small HTTP server through which a service without one of its own is watched.

`/metrics` in the Prometheus text format; `/health/live`, which is 503 once the service says that it cannot go on; and
`/health/ready`, which is 503, with the reason, while the service cannot do its work: until it has begun, and while what
it cannot do without is away.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

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
    app.add_routes([web.get("/metrics", _metrics), web.get("/health/live", _live), web.get("/health/ready", _ready)])
    app[_PROBE] = _Probe(problem, live)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise OperatorError(
            f"cannot serve metrics on {host}:{port} ({error}); choose another --metrics-port"
        ) from error
    try:
        yield
    finally:
        await runner.cleanup()


class _Probe:
    """Why the service is not ready, and whether it is live, as its application's routes ask it."""

    def __init__(self, problem: Callable[[], Awaitable[str]], live: Callable[[], bool]) -> None:
        self.problem = problem
        self.live = live


_PROBE = web.AppKey("probe", _Probe)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _live(request: web.Request) -> web.Response:
    live = request.app[_PROBE].live()
    return web.json_response({"live": live}, status=200 if live else 503)


async def _ready(request: web.Request) -> web.Response:
    problem = await request.app[_PROBE].problem()
    return web.json_response({"ready": not problem, "reason": problem}, status=503 if problem else 200)
