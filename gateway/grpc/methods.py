"""Methods of gRPC services for grpc.aio: they handle bytes, and report errors as the protocol demands.

Every exception of a call becomes a status of the error table. The trailing metadata holds the code in `infaas-status`,
the reason of a refusal in `infaas-reason`, and a retry time if a retry may succeed; `grpc-retry-pushback-ms` holds it
for clients with automatic retries. Messages are parsed here, since grpc.aio answers a malformed one with INTERNAL. The
methods also receive them: grpc.aio would wait without limit for the message of a unary call before authentication.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from math import ceil
from typing import Any, Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from gateway.refusals import refusal_headers, retry_after_s_of
from schemas import headers as h
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
    fields = [(h.STATUS, error.code.value)]
    if error.reason is not None:
        fields.append((h.REASON, error.reason.value))
    fields += [(name.lower(), text) for name, text in refusal_headers(error).items()]
    retry_after_s = retry_after_s_of(error)
    if retry_after_s is not None:
        ms = ceil(retry_after_s * 1e3)
        fields += [(h.RETRY_AFTER_MS, str(ms)), ("retry-after", str(max(ceil(ms / 1e3), 1))), (_PUSHBACK, str(ms))]
    return tuple(fields)


def _unimplemented(method: str, absent: Absent) -> Any:
    async def refuse(_messages: AsyncIterator[bytes], call: Call) -> None:
        await call.abort(grpc.StatusCode.UNIMPLEMENTED, await absent(method, call))

    return stream(refuse)
