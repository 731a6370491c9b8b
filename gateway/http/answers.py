"""Responses to requests, independent of the HTTP implementation: status, some headers, body.

Error responses are always in JSON: clients of the protocol parse the body of every response. Every exception of a
request becomes `{"error": message}` with the status of the error table, the code in the header `infaas-status`, the
reason of a refusal in the body and in `infaas-reason`, and Retry-After if a retry may succeed.
"""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time

from gateway.http.bodies import WORTH_BYTES, accepted_encoding, compress, shrinks
from gateway.inference import error_headers
from schemas import headers as h
from schemas.errors import ErrorCode, Internal, InvalidRequest, OperatorError, Overloaded, QueryError, RefusalReason
from schemas.result import error_value
from schemas.signature import JSON
from store.errors import StoreUnavailable

_STATUS_LINES: Final = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}
_CLOSE: Final = "Connection: close\r\n"
_encode: Final = msgspec.json.Encoder().encode
_LONG_BYTES: Final = 64 * 1024
"""Size from which on bodies are compressed in a thread: they would block the event loop for a millisecond or more."""
log = logging.getLogger(__name__)


class HttpAnswer(NamedTuple):
    """Response to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> web.Response:
        """Return the response of a handler of aiohttp."""
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    def head(self, *, close: bool) -> bytes:
        """Return the bytes of HTTP/1.1 before the body; `close` announces the end of the connection.

        Raises:
            ValueError: a header contains a line break, which would forge another header.
        """
        fields = "".join([f"{name}: {text}\r\n" for name, text in self.headers.items()])
        if not fields.count("\r") == fields.count("\n") == len(self.headers):
            raise ValueError("a header of the response contains a line break")
        length, date = len(self.body), rfc822_formatted_time()
        rest = f"Content-Length: {length}\r\nDate: {date}\r\n{_CLOSE if close else ''}\r\n"
        return f"{_STATUS_LINES[self.status]}{fields}{rest}".encode()


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response of a handler of aiohttp with a content in JSON."""
    return web.Response(body=_encode(content), status=status, content_type=JSON, headers=headers)


async def packed(answer: HttpAnswer, accepted: str) -> HttpAnswer:
    """Return the response in the encoding that `Accept-Encoding` prefers, if compression pays."""
    encoding = accepted_encoding(accepted) if len(answer.body) >= WORTH_BYTES else None
    if encoding is None or not shrinks(answer.body):
        return answer
    if len(answer.body) < _LONG_BYTES:
        body = compress(answer.body, encoding)
    else:
        body = await asyncio.to_thread(compress, answer.body, encoding)
    return HttpAnswer(answer.status, answer.headers | {"Content-Encoding": encoding, "Vary": "Accept-Encoding"}, body)


def answer_to(error: Exception, method: str, path: str) -> HttpAnswer:
    """Return the response to a request that raised `error`; raise HTTP exceptions again that are no errors."""
    if isinstance(error, QueryError):
        return query_error_answer(error)
    if isinstance(error, web.HTTPException):
        return _http_error(error, method, path)
    if isinstance(error, StoreUnavailable):
        log.warning("%s %s: %s", method, path, error)
        return query_error_answer(Overloaded(str(error), reason=RefusalReason.POSTGRES_UNAVAILABLE))
    if isinstance(error, OperatorError):
        log.warning("%s %s: %s", method, path, error)
        return error_answer(Internal.http_status, Internal.code, str(error))
    # The top of a request: a defect must end neither the connection nor the process.
    log.error("%s %s", method, path, exc_info=error)
    return error_answer(Internal.http_status, Internal.code, Internal.default_message)


def query_error_answer(error: QueryError) -> HttpAnswer:
    """Return the response for the error of a query, with its reason, retry time and explanation."""
    body = error_value(str(error), error.reason, error.explanation)
    return HttpAnswer(error.http_status, {"Content-Type": JSON} | error_headers(error), body)


def error_answer(status: int, code: ErrorCode, message: str, headers: dict[str, str] | None = None) -> HttpAnswer:
    """Return the response for an error that is no `QueryError`."""
    return HttpAnswer(status, {h.STATUS: code.value, "Content-Type": JSON} | (headers or {}), error_value(message))


def _http_error(error: web.HTTPException, method: str, path: str) -> HttpAnswer:
    if error.status < 400:
        raise error
    message = f"{method} {path[:200]}: {error.reason}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"the request exceeds the limit of this gateway ({error.text})"
    kept = {name: error.headers[name] for name in ("Allow", "Accept-Encoding") if name in error.headers}
    return error_answer(error.status, InvalidRequest.code, message, kept)
