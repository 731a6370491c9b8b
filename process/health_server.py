"""The small HTTP server through which a service without one of its own is watched.

`/metrics` in the Prometheus text format, `/health/live`, which is 503 once the service says that it cannot go on, and
`/health/ready`, which is 503 until it says that it can serve.
"""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from schemas.errors import OperatorError

log = logging.getLogger(__name__)


@asynccontextmanager
async def health_server(
    host: str, port: int, ready: Callable[[], bool], live: Callable[[], bool] = lambda: True
) -> AsyncGenerator[None]:
    """Serve metrics and health on `host:port` while the context is open; `port` 0 serves nothing.

    Health is served by the service's own event loop: one that stands still answers nothing, so it is not live.

    Raises:
        OperatorError: the port is taken.
    """
    if port == 0:
        yield
        return
    app = web.Application()
    app.add_routes([web.get("/metrics", _metrics), web.get("/health/live", _live), web.get("/health/ready", _ready)])
    app[_PROBE] = _Probe(ready, live)
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
    """Whether the service is ready and live, as its application's routes ask it."""

    def __init__(self, ready: Callable[[], bool], live: Callable[[], bool]) -> None:
        self.ready = ready
        self.live = live


_PROBE = web.AppKey("probe", _Probe)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _live(request: web.Request) -> web.Response:
    live = request.app[_PROBE].live()
    return web.json_response({"live": live}, status=200 if live else 503)


async def _ready(request: web.Request) -> web.Response:
    ready = request.app[_PROBE].ready()
    return web.json_response({"ready": ready}, status=200 if ready else 503)
