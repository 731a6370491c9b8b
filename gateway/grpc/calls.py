"""Methods of gRPC services: dispatch of calls, errors as the protocol demands, authentication.

Every exception of a call becomes a status of the error table. The trailing metadata holds the code in `infaas-status`,
the reason of a refusal in `infaas-reason`, and a retry time if a retry may succeed; `grpc-retry-pushback-ms` holds it
for clients with automatic retries.

As over HTTP, every caller is authenticated first, even for an unknown method: for each call, and for each request of a
stream. Exempt are probes (`ServerLive`, `ServerReady`, health) and reflection, which describes the protocol but no
models. Authentication comes before a message is awaited, so few bytes of unauthenticated clients are buffered.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.auth.authenticator import AUTHORIZATION, Authenticator, require_role, tenant_of_request
from gateway.grpc.call import Call
from gateway.grpc.status import CallEnded
from gateway.inference import error_headers
from gateway.model_directory import ModelDirectory, ServedModels
from schemas import headers as h
from schemas.access import Principal, Role
from schemas.errors import Internal, InvalidRequest, QueryError

log = logging.getLogger(__name__)
Handler: TypeAlias = Callable[[Call], Awaitable[None]]
"""Method of a service; it ends the call, or raises the error that ends it."""
Unary: TypeAlias = Callable[[AsyncIterator[bytes], Call], Awaitable[bytes]]
"""Method that returns one message. It receives its message itself, within a timeout and after authentication."""
Stream: TypeAlias = Callable[[AsyncIterator[bytes], Call], Awaitable[None]]
"""Method that writes its messages to the call."""
Absent: TypeAlias = Callable[[str, Call], Awaitable[str]]
"""Function that returns the error message for an unknown method, or raises if the caller may not know it."""
_MAX_MESSAGE: Final = 1000
"""Maximum length of an error message: clients refuse metadata of more than some KiB."""
_PUSHBACK: Final = "grpc-retry-pushback-ms"
_QUERY: Final = ("ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex")
_ROLES: Final[Mapping[str, Role]] = {
    **dict.fromkeys((*_QUERY, "ModelInfer", "ModelStreamInfer"), Role.QUERY),
    **dict.fromkeys(("RepositoryModelLoad", "RepositoryModelUnload"), Role.PUBLISH),
}


class Methods(NamedTuple):
    """Methods of one service by name; unknown ones are answered with an error message, too."""

    service: str
    methods: Mapping[str, Handler]
    absent: Absent


class CallServer:
    """Server of calls by the methods of services."""

    def __init__(self, services: Iterable[Methods]) -> None:
        self._services = {one.service: one for one in services}

    async def serve(self, call: Call) -> None:
        """Serve a call to its end; only a cancellation is raised."""
        end = await self._end(call)
        if end is not None:
            await call.messages.begun()
            call.fail(end)

    async def _end(self, call: Call) -> CallEnded | None:
        """Answer a call; return the error that it ends with."""
        limit = asyncio.timeout_at(call.deadline_s)
        try:
            async with limit:
                await self._answer(call)
        except CallEnded as end:
            return end
        except TimeoutError as error:
            return CallEnded(grpc.StatusCode.DEADLINE_EXCEEDED, "") if limit.expired() else end_of(error)
        except Exception as error:  # noqa: BLE001 - top of a call
            return end_of(error)
        return None

    async def _answer(self, call: Call) -> None:
        service, _, method = call.path.removeprefix("/").rpartition("/")
        found = self._services.get(service)
        if found is None:
            raise CallEnded(grpc.StatusCode.UNIMPLEMENTED, f"there is no service {service[:80]}")
        handler = found.methods.get(method)
        if handler is None:
            raise CallEnded(grpc.StatusCode.UNIMPLEMENTED, await found.absent(method[:80], call))
        await handler(call)


def unary(method: Unary) -> Handler:
    """Return the handler of a method that answers with one message."""

    async def handle(call: Call) -> None:
        call.finish(await method(call.messages, call))

    return handle


def stream(method: Stream) -> Handler:
    """Return the handler of a method that answers with many messages."""

    async def handle(call: Call) -> None:
        await method(call.messages, call)
        call.finish()

    return handle


def parsed(kind: type[Message], message: bytes) -> Any:
    """Parse a message.

    Raises:
        InvalidRequest: the message is not of this type.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}") from None


def end_of(error: Exception) -> CallEnded:
    """Return the end of a call with an error."""
    known = known_error(error)
    return CallEnded(grpc.StatusCode[known.grpc_status], str(known)[:_MAX_MESSAGE], error_metadata(known))


def known_error(error: BaseException) -> QueryError:
    """Return the error for the client, the first of a group; log any other as a defect and return `Internal`."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, QueryError):
        return error
    log.error("a call failed", exc_info=error)
    return Internal()


def error_metadata(error: QueryError) -> dict[str, str]:
    """Return the trailing metadata of an error: code, reason, quota and retry time."""
    fields = {name.lower(): text for name, text in error_headers(error).items()}
    if h.RETRY_AFTER_MS in fields:
        fields[_PUSHBACK] = fields[h.RETRY_AFTER_MS]
    return fields


class Caller(NamedTuple):
    """Authenticated caller with the metadata of the call."""

    principal: Principal
    metadata: Mapping[str, str]
    models: ServedModels
    """Models that the caller may use."""


class Callers:
    """Authenticator of calls."""

    def __init__(self, authenticator: Authenticator, models: ModelDirectory) -> None:
        self._authenticator = authenticator
        self._models = models

    async def of(self, call: Call, method: str) -> Caller:
        """Return the caller of a method, which may be unknown.

        Raises:
            Unauthenticated: the caller is unknown.
            Forbidden: the caller does not have the role for the method.
        """
        metadata = call.metadata
        principal = await self._authenticator.resolve(metadata, () if AUTHORIZATION in metadata else call.certified)
        if method in _ROLES:
            require_role(principal, _ROLES[method])
        models = self._models.seen_by(tenant_of_request(principal, metadata)).of_tasks(principal.tasks)
        return Caller(principal, metadata, models)
