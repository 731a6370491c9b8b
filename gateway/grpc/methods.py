"""Methods of the services here, as grpc.aio calls them: bytes in, bytes out, and every error in the protocol's words.

Whatever is raised on behalf of a call becomes a status of the closed error table, with the code in `infaas-status` of
the trailing metadata, and when to come back where that may help; `grpc-retry-pushback-ms` tells it to clients that
retry by themselves. Messages are read here rather than by grpc.aio, which answers one that is none with INTERNAL; and
received by the methods, since grpc.aio waits for the one message of a unary call before it asks who calls, for ever.
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
"""One call of a method: its metadata, its deadline, and how it ends."""
Unary: TypeAlias = Callable[[AsyncIterator[bytes], Call], Awaitable[bytes]]
"""A method that answers with one message. It receives what it wants to: nothing of who may not call, and in time."""
Stream: TypeAlias = Callable[[AsyncIterator[bytes], Call], Awaitable[None]]
"""A method that writes its answers to the call."""
Absent: TypeAlias = Callable[[str, Call], Awaitable[str]]
"""What is said of a method that a service has not, unless it may not even be told."""

_MAX_MESSAGE: Final = 1000
"""Characters of an error's message: metadata that is larger than some KiB is refused by clients."""
_PUSHBACK: Final = "grpc-retry-pushback-ms"


class Methods(grpc.GenericRpcHandler):
    """Methods of one service; those that it has not are answered with words, too."""

    def __init__(self, service: str, methods: Mapping[str, Any], absent: Absent) -> None:
        self._prefix = f"/{service}/"
        self._methods = {f"{self._prefix}{name}": method for name, method in methods.items()}
        self._absent = absent

    def service(self, handler_call_details: Any) -> Any:
        """The method that a call names; None if it is of another service."""
        path = handler_call_details.method
        found = self._methods.get(path)
        if found is None and path.startswith(self._prefix):
            return _unimplemented(path.removeprefix(self._prefix)[:80], self._absent)
        return found


def unary(method: Unary) -> Any:
    """The handler of a method that answers with one message."""

    async def handle(messages: AsyncIterator[bytes], call: Call) -> bytes:
        try:
            return await method(messages, call)
        except Exception as error:  # noqa: BLE001 - the top of a call; what is no error goes on
            return await end_with(call, error)

    return grpc.stream_unary_rpc_method_handler(handle)


def stream(method: Stream) -> Any:
    """The handler of a method that answers with many messages."""

    async def handle(messages: AsyncIterator[bytes], call: Call) -> None:
        try:
            await method(messages, call)
        except Exception as error:  # noqa: BLE001 - as above
            await end_with(call, error)

    return grpc.stream_stream_rpc_method_handler(handle)


def parsed(kind: type[Message], message: bytes) -> Any:
    """Read a message.

    Raises:
        InvalidRequest: it is none of this kind.
    """
    try:
        return kind.FromString(message)
    except DecodeError:
        raise InvalidRequest(f"the message is no {kind.DESCRIPTOR.name}") from None


async def end_with(call: Call, error: Exception) -> Any:
    """End a call with an error."""
    if isinstance(error, grpc.aio.AbortError):  # it has ended
        raise error
    known = known_error(error)
    status = grpc.StatusCode[known.grpc_status]
    await call.abort(status, str(known)[:_MAX_MESSAGE], trailing_metadata=error_metadata(known))


def known_error(error: BaseException) -> QueryError:
    """The error itself if it is one for clients, the first of several; else a defect of ours, which is logged."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, QueryError):
        return error
    log.error("a call failed", exc_info=error)
    return Internal()


def error_metadata(error: QueryError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that tells of an error what its status does not."""
    fields = [(h.STATUS, error.code.value)]
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
