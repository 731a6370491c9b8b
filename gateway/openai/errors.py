"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`, made from the gateway's own answers.

The type follows from the status. The code is the reason of a refusal, or else the error's code, as in the headers
`infaas-reason` and `infaas-status`. OpenAI's clients repeat a request after 429 and 5xx, in the time of `Retry-After`,
unless `x-should-retry` says otherwise: a model that fails on an input fails again.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from schemas import headers as h
from schemas.errors import QUERY_ERRORS, ErrorCode
from schemas.openai import OpenAiError, OpenAiErrorBody
from schemas.result import ErrorBody
from schemas.signature import JSON

_PATHS: Final = re.compile(r"/v1/(embeddings|rerank|(chat/)?completions|models(/[^/]+)?|(files|batches)(/.*)?)")
_PARAM: Final = re.compile(r"(?:\$\.|parameter (?!is ))([A-Za-z_]+)")
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_SERVER: Final = 500
_RETRY: Final = "x-should-retry"
_decode: Final = msgspec.json.Decoder(ErrorBody)


def openai_error(status: int, message: str, code: str) -> OpenAiError:
    """Return an error; `param` is the first field of the request that the message names."""
    kind = _TYPES.get(status, "server_error" if status >= _SERVER else "invalid_request_error")
    found = _PARAM.search(message) if status < _SERVER else None
    return OpenAiError(message, kind, found[1] if found else None, code)


def error_body(status: int, message: str, code: str) -> bytes:
    """Return the body of an error response."""
    return msgspec.json.encode(OpenAiErrorBody(openai_error(status, message, code)))


@web.middleware
async def openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Convert errors of OpenAI's paths, also those from before any handler, such as a missing key."""
    response = await handler(request)
    if response.status < 400 or not _PATHS.fullmatch(request.path):
        return response
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    try:
        found = _decode.decode(response.body)
    except msgspec.MsgspecError:
        return response
    code = response.headers.get(h.STATUS, "")
    response.body = error_body(response.status, found.error, found.reason or code)
    response.content_type = JSON
    if response.status >= _SERVER and code in ErrorCode.__members__.values():
        response.headers[_RETRY] = str(QUERY_ERRORS[ErrorCode(code)].retryable).lower()
    return response
