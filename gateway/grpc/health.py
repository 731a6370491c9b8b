"""`grpc.health.v1.Health`: whether the gateway can do its work, asked once or watched.

The library's own servicer holds states that others push into it. Here readiness is found out when somebody asks, as
over HTTP, and a watcher is somebody who asks each second. Whoever comes may ask, so what they ask must be here at once,
and how many may watch is bounded, in all and from one address.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.grpc.arrivals import Arrivals
from gateway.grpc.methods import Call, parsed, stream, unary
from gateway.grpc.places import CallPlaces, host_of
from process.event_wait import wait_within

_WATCH_S: Final = 1.0
_ASKING: Final = 512
"""Questions that have not arrived yet."""
_WATCHING: Final = 256
_SHARE: Final = 4
"""One address may hold one place of so many."""
_SERVING: Final = HealthCheckResponse.SERVING
_NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """Methods by which the gateway is watched; `services` are those it answers for, all alike."""

    def __init__(
        self,
        services: frozenset[str],
        arrivals: Arrivals,
        problem: Callable[[], Awaitable[str]],
        stop: asyncio.Event,
    ) -> None:
        self._services = services | {""}  # the server itself
        self._arrivals = arrivals
        self._asking = CallPlaces("questions for the health", _ASKING, _ASKING // _SHARE)
        self._watching = CallPlaces("watches of the health", _WATCHING, _WATCHING // _SHARE)
        self._problem = problem
        self._stop = stop

    def methods(self) -> dict[str, Any]:
        """Handlers by the name of their method."""
        return {"Check": unary(self._check), "Watch": stream(self._watch)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """What is said of a method that there is not."""
        return f"Health has no method {method}"

    async def _check(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        status = await self._status(await self._asked(messages, call))
        if status == _UNKNOWN:
            await call.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, messages: AsyncIterator[bytes], call: Call) -> None:
        """Tell the state, and again whenever it is another one, until the client has enough or the gateway stops."""
        with self._watching.taken(host_of(call.peer())):
            asked, told, stopping = await self._asked(messages, call), None, False
            while not stopping:
                stopping = self._stop.is_set()
                status = await self._status(asked)
                if status != told:
                    await call.write(HealthCheckResponse(status=status).SerializeToString())
                    told = status
                await wait_within(_WATCH_S, self._stop)

    async def _asked(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        with self._asking.taken(host_of(call.peer())):
            return await self._arrivals.message(messages, may_be_late=False)

    async def _status(self, message: bytes) -> HealthCheckResponse.ServingStatus:
        if parsed(HealthCheckRequest, message).service not in self._services:
            return _UNKNOWN
        return _NOT_SERVING if await self._problem() else _SERVING
