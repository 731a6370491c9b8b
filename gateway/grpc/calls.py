"""Calls of gRPC methods: handlers of bytes for grpc.aio, errors as the protocol demands, authentication.

Every exception of a call becomes a status of the error table. The trailing metadata holds the code in `infaas-status`,
the reason of a refusal in `infaas-reason`, and a retry time if a retry may succeed; `grpc-retry-pushback-ms` holds it
for clients with automatic retries. Messages are parsed here, since grpc.aio answers a malformed one with INTERNAL. The
methods also receive them: grpc.aio would wait without limit for the message of a unary call before authentication.

As over HTTP, every caller is authenticated first, even for an unknown method: for each call, and for each request of a
stream. Exempt are probes (`ServerLive`, `ServerReady`, health) and reflection, which describes the protocol but no
models. Authentication comes before the message is received, so no bytes of unauthenticated clients are buffered.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
import grpc.aio
from cryptography import x509
from google.protobuf.message import DecodeError, Message

from gateway.auth.authenticator import AUTHORIZATION, Authenticator, require_role, tenant_of_request
from gateway.inference import error_headers
from gateway.model_directory import ModelDirectory, ServedModels
from process.tls import names_that_count
from schemas import headers as h
from schemas.access import Principal, Role
from schemas.errors import Internal, InvalidRequest, QueryError

log = logging.getLogger(__name__)
Call: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""One call of a method: metadata, deadline, status."""
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
_CERTIFICATE: Final = "x509_pem_cert"
"""Property of a call that holds the client certificate."""
_MOST_CERTIFICATES: Final = 1024
"""Maximum number of certificates whose names are cached."""


class Methods(grpc.GenericRpcHandler):
    """Methods of one service; unknown methods are answered with an error message, too."""

    def __init__(self, service: str, methods: Mapping[str, Any], absent: Absent) -> None:
        self._prefix = f"/{service}/"
        self._methods = {f"{self._prefix}{name}": method for name, method in methods.items()}
        self._absent = absent

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of the method that a call names; None if it belongs to another service."""
        path = handler_call_details.method
        found = self._methods.get(path)
        if found is None and path.startswith(self._prefix):
            return _unimplemented(path.removeprefix(self._prefix)[:80], self._absent)
        return found


def unary(method: Unary) -> Any:
    """Return the handler of a method that answers with one message."""

    async def handle(messages: AsyncIterator[bytes], call: Call) -> bytes:
        try:
            return await method(messages, call)
        except Exception as error:  # noqa: BLE001 - top of a call; exceptions that are no errors are raised again
            return await end_with(call, error)

    return grpc.stream_unary_rpc_method_handler(handle)


def stream(method: Stream) -> Any:
    """Return the handler of a method that answers with many messages."""

    async def handle(messages: AsyncIterator[bytes], call: Call) -> None:
        try:
            await method(messages, call)
        except Exception as error:  # noqa: BLE001 - as above
            await end_with(call, error)

    return grpc.stream_stream_rpc_method_handler(handle)


def parsed(kind: type[Message], message: bytes) -> Any:
    """Parse a message.

    Raises:
        InvalidRequest: the message is not of this type.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}") from None


async def end_with(call: Call, error: Exception) -> Any:
    """End a call with the status of an error."""
    if isinstance(error, grpc.aio.AbortError):  # the call has ended
        raise error
    known = known_error(error)
    status = grpc.StatusCode[known.grpc_status]
    await call.abort(status, str(known)[:_MAX_MESSAGE], trailing_metadata=error_metadata(known))


def known_error(error: BaseException) -> QueryError:
    """Return the error for the client, the first of a group; log any other as a defect and return `Internal`."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, QueryError):
        return error
    log.error("a call failed", exc_info=error)
    return Internal()


def error_metadata(error: QueryError) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata of an error: code, reason, quota and retry time."""
    fields = {name.lower(): text for name, text in error_headers(error).items()}
    if h.RETRY_AFTER_MS in fields:
        fields[_PUSHBACK] = fields[h.RETRY_AFTER_MS]
    return tuple(fields.items())


def _unimplemented(method: str, absent: Absent) -> Any:
    async def refuse(_messages: AsyncIterator[bytes], call: Call) -> None:
        await call.abort(grpc.StatusCode.UNIMPLEMENTED, await absent(method, call))

    return stream(refuse)


class Caller(NamedTuple):
    """Authenticated caller with the metadata of the call."""

    principal: Principal
    metadata: dict[str, str]
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
        metadata = metadata_of(call.invocation_metadata())
        principal = await self._authenticator.resolve(metadata, () if AUTHORIZATION in metadata else certified(call))
        if method in _ROLES:
            require_role(principal, _ROLES[method])
        models = self._models.seen_by(tenant_of_request(principal, metadata)).of_tasks(principal.tasks)
        return Caller(principal, metadata, models)


def certified(call: Call) -> tuple[str, ...]:
    """Return the names in the client certificate of the connection.

    They are read from the certificate itself. The names that gRPC reports end at the first NUL, so a certificate for a
    name that begins like another's, followed by NUL, would pass for that name.
    """
    shown = next(iter(call.auth_context().get(_CERTIFICATE, ())), None)
    return () if shown is None else _names_in(shown)


@lru_cache(_MOST_CERTIFICATES)
def _names_in(pem: bytes) -> tuple[str, ...]:
    uris, dns = list[str](), list[str]()
    try:
        shown = x509.load_pem_x509_certificate(pem)
        for part in shown.extensions:
            if isinstance(part.value, x509.SubjectAlternativeName):
                uris = part.value.get_values_for_type(x509.UniformResourceIdentifier)
                dns = part.value.get_values_for_type(x509.DNSName)
        common = [str(one.value) for one in shown.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except (ValueError, x509.UnsupportedGeneralNameType):  # no name that identifies a caller
        return ()
    return names_that_count(uris, dns, common)


def metadata_of(fields: Iterable[tuple[str, str | bytes]] | None) -> dict[str, str]:
    """Return the metadata of a call without binary fields; the last of a repeated name counts."""
    return {name: text for name, text in fields or () if isinstance(text, str)}


def host_of(peer: str) -> str:
    """Return the address in gRPC's name of a peer, such as `ipv4:10.0.0.1:4242`."""
    return peer.rpartition(":")[0] or peer
