"""`grpc.health.v1.Health`: whether the gateway can do its work, asked once or watched.

The library's own servicer holds states that others push into it. Here readiness is found out when somebody asks, as
over HTTP, and a watcher is somebody who asks each second.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.grpc.methods import Call, parsed, unary, unary_stream
from process.event_wait import wait_within

_WATCH_S: Final = 1.0
_SERVING: Final = HealthCheckResponse.SERVING
_NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """Methods by which the gateway is watched; `services` are those it answers for, all alike."""

    def __init__(self, services: frozenset[str], problem: Callable[[], Awaitable[str]], stop: asyncio.Event) -> None:
        self._services = services | {""}  # the server itself
        self._problem = problem
        self._stop = stop

    def methods(self) -> dict[str, Any]:
        """Handlers by the name of their method."""
        return {"Check": unary(self._check), "Watch": unary_stream(self._watch)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """What is said of a method that there is not."""
        return f"Health has no method {method}"

    async def _check(self, message: bytes, call: Call) -> bytes:
        status = await self._status(message)
        if status == _UNKNOWN:
            await call.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, message: bytes, call: Call) -> None:
        """Tell the state, and again whenever it is another one, until the client has enough or the gateway stops."""
        told, stopping = None, False
        while not stopping:
            stopping = self._stop.is_set()
            status = await self._status(message)
            if status != told:
                await call.write(HealthCheckResponse(status=status).SerializeToString())
                told = status
            await wait_within(_WATCH_S, self._stop)

    async def _status(self, message: bytes) -> HealthCheckResponse.ServingStatus:
        if parsed(HealthCheckRequest, message).service not in self._services:
            return _UNKNOWN
        return _NOT_SERVING if await self._problem() else _SERVING
