"""Services without authentication: `grpc.health.v1.Health` and `grpc.reflection.v1alpha.ServerReflection`.

The message of a client must arrive promptly, and the number of checks, watches and streams is limited, in total and for
each address.

The health servicer of the gRPC library holds states that other code sets. Here each check determines the readiness, as
over HTTP, and a watch checks every second. The servicer of the library answers reflection.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway.grpc.call import Call
from gateway.grpc.calls import Handler, parsed, stream, unary
from gateway.grpc.status import CallEnded
from gateway.limits.arrivals import Arrivals
from gateway.limits.connections import CallLimit
from process.pauses import wait_within
from schemas.errors import InvalidRequest

_WATCH_S: Final = 1.0
_CHECKING: Final = 512
"""Maximum number of requests that are still arriving."""
_WATCHING: Final = 256
_SHARE: Final = 4
"""One address may use 1/4 of the places."""
_SERVING: Final = HealthCheckResponse.SERVING
_NOT_SERVING: Final = HealthCheckResponse.NOT_SERVING
_UNKNOWN: Final = HealthCheckResponse.SERVICE_UNKNOWN
_REFLECTING: Final = 256


class HealthService:
    """Methods of the health service; all of `services` have the same state."""

    def __init__(
        self, services: frozenset[str], arrivals: Arrivals, problem: Callable[[], Awaitable[str]], stop: asyncio.Event
    ) -> None:
        self._services = services | {""}  # the empty name is the server itself
        self._arrivals = arrivals
        self._asking = CallLimit("health checks", _CHECKING, _CHECKING // _SHARE)
        self._watching = CallLimit("health watches", _WATCHING, _WATCHING // _SHARE)
        self._problem = problem
        self._stop = stop

    def methods(self) -> dict[str, Handler]:
        """Return the handlers by the name of their method."""
        return {"Check": unary(self._check), "Watch": stream(self._watch)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """Return the error message for an unknown method."""
        return f"Health has no method {method}"

    async def _check(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        status = await self._status(await self._asked(messages, call))
        if status == _UNKNOWN:
            raise CallEnded(grpc.StatusCode.NOT_FOUND, "this server has no such service")
        return HealthCheckResponse(status=status).SerializeToString()

    async def _watch(self, messages: AsyncIterator[bytes], call: Call) -> None:
        """Send the state, and again after each change, until the client ends the call or the gateway stops."""
        with self._watching.taken(call.peer[0]):
            asked, sent, stopping = await self._asked(messages, call), None, False
            while not stopping:
                stopping = self._stop.is_set()
                status = await self._status(asked)
                if status != sent:
                    await call.write(HealthCheckResponse(status=status).SerializeToString())
                    sent = status
                await wait_within(_WATCH_S, self._stop)

    async def _asked(self, messages: AsyncIterator[bytes], call: Call) -> bytes:
        with self._asking.taken(call.peer[0]):
            return await self._arrivals.message(messages, may_be_late=False)

    async def _status(self, message: bytes) -> HealthCheckResponse.ServingStatus:
        if parsed(HealthCheckRequest, message).service not in self._services:
            return _UNKNOWN
        return _NOT_SERVING if await self._problem() else _SERVING


class ReflectionService:
    """Methods of the reflection service; `described` holds the descriptors of `services` and their messages."""

    def __init__(self, services: Sequence[str], described: DescriptorPool, arrivals: Arrivals) -> None:
        self._servicer: Any = ReflectionServicer((*services, SERVICE_NAME), described)
        self._arrivals = arrivals
        self._asking = CallLimit("reflection streams", _REFLECTING, _REFLECTING // _SHARE)

    def methods(self) -> dict[str, Handler]:
        """Return the handlers by the name of their method."""
        return {"ServerReflectionInfo": stream(self._info)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """Return the error message for an unknown method."""
        return f"ServerReflection has no method {method}"

    async def _info(self, messages: AsyncIterator[bytes], call: Call) -> None:
        with self._asking.taken(call.peer[0]):
            while True:
                try:
                    message = await self._arrivals.message(messages, may_be_late=False)
                except InvalidRequest:  # the next message does not exist, or is late
                    return
                await call.write(self._answer(parsed(ServerReflectionRequest, message)).SerializeToString())

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        return next(self._servicer.ServerReflectionInfo(iter((request,)), None))
