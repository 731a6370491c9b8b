"""Liveness and readiness of the gateway, and its metrics."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest


class HealthRoutes:
    """Handlers of the protocol's health paths, and of those that the other services have."""

    def __init__(self, problem: Callable[[], Awaitable[str]]) -> None:
        """`problem` says why the gateway is not ready; nothing if it is."""
        self._problem = problem

    def routes(self) -> list[web.RouteDef]:
        """Routes to add to the application."""
        return [
            web.get("/v2/health/live", self.live),
            web.get("/v2/health/ready", self.ready),
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/metrics", self.metrics),
        ]

    async def live(self, _request: web.Request) -> web.Response:
        """Answer that the process lives."""
        return web.json_response({"live": True})

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer whether Kafka takes queries and nobody has told the gateway to stop, or else why not."""
        problem = await self._problem()
        return web.json_response({"ready": not problem, "reason": problem}, status=503 if problem else 200)

    async def metrics(self, _request: web.Request) -> web.Response:
        """Answer with the metrics in the Prometheus text format."""
        text = await asyncio.to_thread(generate_latest)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})
