"""`grpc.reflection.v1alpha.ServerReflection`: descriptions of services and messages, by the servicer of the library.

Clients need no authentication. Therefore a stream ends if its next message is late, and the number of streams is
limited, in total and for each address.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway.grpc.callers import host_of
from gateway.grpc.methods import Call, parsed, stream
from gateway.limits.arrivals import Arrivals
from gateway.limits.calls import CallLimit
from schemas.errors import InvalidRequest

_ASKING: Final = 256
_SHARE: Final = 4
"""One address may use 1/4 of the places."""


class ReflectionService:
    """Methods of the reflection service; `described` holds the descriptors of `services` and their messages."""

    def __init__(self, services: Sequence[str], described: DescriptorPool, arrivals: Arrivals) -> None:
        self._servicer: Any = ReflectionServicer((*services, SERVICE_NAME), described)
        self._arrivals = arrivals
        self._asking = CallLimit("streams of reflection", _ASKING, _ASKING // _SHARE)

    def methods(self) -> dict[str, Any]:
        """Return the handlers by the name of their method."""
        return {"ServerReflectionInfo": stream(self._info)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """Return the error message for an unknown method."""
        return f"ServerReflection has no method {method}"

    async def _info(self, messages: AsyncIterator[bytes], call: Call) -> None:
        with self._asking.taken(host_of(call.peer())):
            while True:
                try:
                    message = await self._arrivals.message(messages, may_be_late=False)
                except InvalidRequest:  # the next message does not exist, or is late
                    return
                await call.write(self._answer(parsed(ServerReflectionRequest, message)).SerializeToString())

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        return next(self._servicer.ServerReflectionInfo(iter((request,)), None))
