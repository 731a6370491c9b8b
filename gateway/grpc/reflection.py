"""`grpc.reflection.v1alpha.ServerReflection`: which services and messages there are, by the library's own servicer.

Whoever comes may ask, so a stream ends once its client says nothing more, and how many there are is bounded, in all and
from one address.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, ReflectionServicer
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from gateway.grpc.arrivals import Arrivals
from gateway.grpc.methods import Call, parsed, stream
from gateway.grpc.places import CallPlaces, host_of
from schemas.errors import InvalidRequest

_ASKING: Final = 256
_SHARE: Final = 4
"""One address may hold one place of so many."""


class ReflectionService:
    """Methods by which clients learn the protocol; `described` holds `services` and what they speak of."""

    def __init__(self, services: Sequence[str], described: DescriptorPool, arrivals: Arrivals) -> None:
        self._servicer: Any = ReflectionServicer((*services, SERVICE_NAME), described)
        self._arrivals = arrivals
        self._asking = CallPlaces("streams of reflection", _ASKING, _ASKING // _SHARE)

    def methods(self) -> dict[str, Any]:
        """Handlers by the name of their method."""
        return {"ServerReflectionInfo": stream(self._info)}

    async def not_offered(self, method: str, _call: Call) -> str:
        """What is said of a method that there is not."""
        return f"ServerReflection has no method {method}"

    async def _info(self, messages: AsyncIterator[bytes], call: Call) -> None:
        with self._asking.taken(host_of(call.peer())):
            while True:
                try:
                    message = await self._arrivals.message(messages, may_be_late=False)
                except InvalidRequest:  # there is no more, or not soon
                    return
                await call.write(self._answer(parsed(ServerReflectionRequest, message)).SerializeToString())

    def _answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        return next(self._servicer.ServerReflectionInfo(iter((request,)), None))
