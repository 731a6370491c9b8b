"""Errors in JSON, always: clients of the protocol parse the body of every answer.

Whatever a handler raises becomes `{"error": message}`, with the status of the closed error table, the code in the
header `infaas-status`, and Retry-After where trying again may help. What is no HTTP at all never reaches a handler;
aiohttp's protocol answers it, in our words.
"""

import asyncio
import logging
from math import ceil
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from schemas import headers as h
from schemas.errors import ErrorCode, Internal, InvalidRequest, OperatorError, QueryError
from schemas.oip import JSON
from schemas.result import error_value
from store.errors import StoreUnavailable

log = logging.getLogger(__name__)

RETRY_AFTER_S: Final = "1"
_RETRY_AFTER: Final = "Retry-After"
_RETRY_STATUSES: Final = frozenset({429, 503})


@web.middleware
async def json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in JSON."""
    try:
        return await handler(request)
    except QueryError as error:
        return error_response(error.http_status, error.code, str(error), _retry_after(error))
    except web.HTTPException as error:
        return _http_error(request, error)
    except (OperatorError, StoreUnavailable) as error:
        log.warning("%s %s: %s", request.method, request.path, error)
        return error_response(Internal.http_status, Internal.code, str(error))
    except Exception:  # the top of a request: one defect must not take the connection or the process with it
        log.exception("%s %s", request.method, request.path)
        return error_response(Internal.http_status, Internal.code, Internal.default_message)


class JsonProtocol(web.RequestHandler):
    """Connection on which requests that cannot be parsed, or that never end, are answered in JSON, too."""

    __slots__ = ("_cut", "_receive_timeout_s", "_waiting")

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop, receive_timeout_s: float) -> None:
        super().__init__(manager, loop=loop, access_log=None)  # pyright: ignore[reportArgumentType] - optional
        self._receive_timeout_s = receive_timeout_s
        self._waiting: object = None
        self._cut: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request; its head has to be whole in time, counted from its first byte."""
        super().data_received(data)
        waiter = self._waiter
        # Still waiting though bytes came: they are a part of a head.
        if waiter is not None and waiter is not self._waiting and not waiter.done():
            self._stop_clock()
            self._waiting = waiter
            self._cut = self._loop.call_later(self._receive_timeout_s, self._cut_head)

    def read_no_more(self) -> None:
        """Close after the present answer, without a wait for the rest of what asked for it."""
        self._lingering_time = 0.0

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._stop_clock()
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._cut is not None:
            self._cut.cancel()

    def _cut_head(self) -> None:
        waiter, transport = self._waiter, self.transport
        if waiter is not self._waiting or waiter is None or waiter.done() or transport is None:
            return
        body = error_value(f"the head of the request has not arrived within {self._receive_timeout_s:g} s")
        head = f"HTTP/1.1 408 Request Timeout\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
        transport.write(f"{head}{h.STATUS}: {ErrorCode.INVALID_REQUEST}\r\nConnection: close\r\n\r\n".encode() + body)
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be parsed, after which the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun, and another cannot follow")
        if status >= 500:  # a defect of ours, and outside of what `json_errors` sees
            log.error("%s %s", request.method, request.path, exc_info=exc)
            response = error_response(status, Internal.code, Internal.default_message)
        else:
            reason = (message or "").partition("\n")[0].strip().rstrip(":")
            response = error_response(status, InvalidRequest.code, f"this is not HTTP: {reason or exc}")
        response.force_close()
        return response


def error_response(status: int, code: ErrorCode, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """Response that tells a client of an error."""
    fields = {h.STATUS: code.value, "Content-Type": JSON} | (headers or {})
    if status in _RETRY_STATUSES:
        fields.setdefault(_RETRY_AFTER, RETRY_AFTER_S)
    return web.Response(status=status, body=error_value(message), headers=fields)


def _retry_after(error: QueryError) -> dict[str, str]:
    """When to come back: HTTP knows whole seconds only."""
    seconds = error.retry_after_s
    return (
        {}
        if seconds is None
        else {_RETRY_AFTER: str(max(ceil(seconds), 1)), h.RETRY_AFTER_MS: str(ceil(seconds * 1e3))}
    )


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    if error.status < 400:
        raise error
    message = f"{request.method} {request.path[:200]}: {error.reason}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"the request is larger than what this gateway takes ({error.text})"
    kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    response = error_response(error.status, InvalidRequest.code, message, kept)
    if isinstance(error, web.HTTPRequestTimeout) and isinstance(request.protocol, JsonProtocol):
        request.protocol.read_no_more()
        response.force_close()
    return response
