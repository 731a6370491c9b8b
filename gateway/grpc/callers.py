"""Who calls, and what there is for them: found out for each call, and for each request of a stream.

Everybody says who they are first, as over HTTP, even for a method that there is not, but for probes (`ServerLive`,
`ServerReady`, health) and reflection, which tells of the protocol and nothing of what is served here.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import grpc.aio

from gateway.authentication import Authenticator
from gateway.grpc.inference_pb2 import DESCRIPTOR
from gateway.grpc.methods import Call, refusing
from gateway.model_directory import ModelDirectory, ServedModels
from gateway.refusals import require_role
from gateway.tenants import tenant_asking
from schemas.errors import QueryError
from schemas.principal import Principal, Role

_PREFIX: Final = f"/{DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/"
_OPEN: Final = frozenset({"ServerLive", "ServerReady"})
_QUERY: Final = ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex")
_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys((*_QUERY, "ModelInfer", "ModelStreamInfer"), Role.QUERY),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload"), Role.PUBLISH),
}


class Caller(NamedTuple):
    """Someone who calls, with the metadata of their call."""

    principal: Principal
    metadata: dict[str, str]
    models: ServedModels
    """Models that they may use."""


class Callers:
    """Finder of who calls."""

    def __init__(self, authenticator: Authenticator, models: ModelDirectory) -> None:
        self._authenticator = authenticator
        self._models = models

    async def of(self, call: Call, method: str) -> Caller:
        """Who calls a method, which may be none.

        Raises:
            Unauthenticated: nobody who is known.
            Forbidden: the method is not for them.
        """
        metadata = metadata_of(call.invocation_metadata())
        principal = await self._admitted(method, metadata)
        models = self._models.seen_by(tenant_asking(principal, metadata)).of_tasks(principal.tasks)
        return Caller(principal, metadata, models)

    async def check(self, path: str, metadata: Mapping[str, str]) -> None:
        """Check that a method, by its path, is for who calls it; raises as `of`."""
        method = path.removeprefix(_PREFIX)
        if path.startswith(_PREFIX) and method not in _OPEN:
            await self._admitted(method, metadata)

    async def _admitted(self, method: str, metadata: Mapping[str, str]) -> Principal:
        principal = await self._authenticator.resolve(metadata)
        if method in _ROLES:
            require_role(principal, _ROLES[method])
        return principal


class CallerCheck(grpc.aio.ServerInterceptor):
    """Refuser of who may not call, before their message is received: no bytes of strangers are held or awaited.

    The method itself looks again: what is asked by then may be asked by nobody any more.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler of a call."""
        details: Any = handler_call_details
        try:
            await self._callers.check(details.method, metadata_of(details.invocation_metadata))
        except QueryError as error:
            return refusing(error)
        return await continuation(handler_call_details)


def metadata_of(fields: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """The metadata of a call, but for what is binary; the last of a repeated name wins."""
    return {name: text for name, text in fields or () if isinstance(text, str)}
