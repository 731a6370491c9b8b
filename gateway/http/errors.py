"""Error responses, always in JSON: clients of the protocol parse the body of every response.

Every exception of a request becomes `{"error": message}` with the status of the error table, the code in the header
`infaas-status`, the reason of a refusal in the body and in `infaas-reason`, and Retry-After if a retry may succeed.
"""

import logging
from math import ceil
from typing import Final

from aiohttp import web

from gateway.http.answers import HttpAnswer
from gateway.refusals import RETRY_AFTER_S, refusal_headers
from schemas import headers as h
from schemas.errors import (
    ErrorCode,
    Internal,
    InvalidRequest,
    OperatorError,
    Overloaded,
    QueryError,
    RefusalReason,
)
from schemas.oip import JSON
from schemas.result import error_value
from store.errors import StoreUnavailable

log = logging.getLogger(__name__)

DEFAULT_RETRY_AFTER: Final = str(ceil(RETRY_AFTER_S))
_RETRY_AFTER: Final = "Retry-After"
_RETRY_STATUSES: Final = frozenset({429, 503})


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
    fields = _retry_after(error) | refusal_headers(error)
    if error.reason is not None:
        fields[h.REASON] = error.reason.value
    answer = error_answer(error.http_status, error.code, str(error), fields)
    return answer._replace(body=error_value(str(error), error.reason, error.explanation))


def error_answer(status: int, code: ErrorCode, message: str, headers: dict[str, str] | None = None) -> HttpAnswer:
    """Return the response for an error."""
    fields = {h.STATUS: code.value, "Content-Type": JSON} | (headers or {})
    if status in _RETRY_STATUSES:
        fields.setdefault(_RETRY_AFTER, DEFAULT_RETRY_AFTER)
    return HttpAnswer(status, fields, error_value(message))


def _retry_after(error: QueryError) -> dict[str, str]:
    """Return the headers with the retry time: in whole seconds for HTTP, in milliseconds for our clients."""
    seconds = error.retry_after_s
    return (
        {}
        if seconds is None
        else {_RETRY_AFTER: str(max(ceil(seconds), 1)), h.RETRY_AFTER_MS: str(ceil(seconds * 1e3))}
    )


def _http_error(error: web.HTTPException, method: str, path: str) -> HttpAnswer:
    if error.status < 400:
        raise error
    message = f"{method} {path[:200]}: {error.reason}"
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        message = f"the request is larger than what this gateway takes ({error.text})"
    kept = {name: error.headers[name] for name in ("Allow", "Accept-Encoding") if name in error.headers}
    return error_answer(error.status, InvalidRequest.code, message, kept)
