"""`grpc.health.v1.Health`: readiness of the gateway, as a single check or as a watch.

The servicer of the gRPC library holds states that other code sets. Here each check determines the readiness, as over
HTTP, and a watch checks every second. Clients need no authentication. Therefore their message must arrive promptly, and
the number of watches is limited, in total and for each address.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.grpc.callers import host_of
from gateway.grpc.methods import Call, parsed, stream, unary
from gateway.limits.arrivals import Arrivals
from gateway.limits.calls import CallLimit
from process.event_wait import wait_within

_WATCH_S: Final = 1.0
_ASKING: Final = 512
"""Maximum number of requests that are still arriving."""
_WATCHING: Final = 256
_SHARE: Final = 4
"""One address may use 1/4 of the places."""
_SERVING: Final = HealthCheckResponse.SERVING
_NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN


class HealthService:
    """Methods of the health service; all of `services` have the same state."""

    def __init__(
        self,
        services: frozenset[str],
        arrivals: Arrivals,
        problem: Callable[[], Awaitable[str]],
        stop: asyncio.Event,
    ) -> None:
        self._services = services | {""}  # the empty name is the server itself
        self._arrivals = arrivals
        self._asking = CallLimit("questions for the health", _ASKING, _ASKING // _SHARE)
        self._watching = CallLimit("watches of the health", _WATCHING, _WATCHING // _SHARE)
        self._problem = problem
        self._stop = stop

    def methods(self) -> dict[str, Any]:
        """Return the handlers by the name of their method."""
        return {"Check": unary(self._check), "Watch": stream(self._watch)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """Return the error message for an unknown method."""
        return f"Health has no method {method}"

    async def _check(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        status = await self._status(await self._asked(messages, call))
        if status == _UNKNOWN:
            await call.abort(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, messages: AsyncIterator[bytes], call: Call) -> None:
        """Send the state, and again after each change, until the client ends the call or the gateway stops."""
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
