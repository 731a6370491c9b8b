"""Error responses in the OpenAPI document: each is defined once, and operations refer to it."""

from typing import Any, Final

from schemas import headers as h
from schemas.documents import fields
from schemas.errors import QUERY_ERRORS, ErrorCode, RefusalReason

_JSON: Final = "application/json"
_CONTENT: Final = {_JSON: {"schema": {"$ref": "#/components/schemas/ErrorBody"}}}
ANY: Final = (400, 408, 503)
"""Statuses that any request may get: it is not valid HTTP, it does not arrive in time, or there are too many
connections."""
BODY: Final = (413, 415)
"""Additional statuses of requests with a body."""
_OF_HTTP: Final = {
    408: "The request did not arrive in time.",
    411: "The request has no Content-Length.",
    413: "The body is too large, or too large after decompression.",
    415: "The body's `Content-Encoding` is not supported; `Accept-Encoding` lists supported ones.",
}


def errors(*statuses: int) -> dict[str, Any]:
    """Return references to the responses of these statuses and of the statuses that any request may get."""
    return {str(status): {"$ref": f"#/components/responses/E{status}"} for status in sorted({*ANY, *statuses})}


def refusal(description: str) -> dict[str, Any]:
    """Return an error response with a description that is specific to one operation."""
    return {"description": description, "content": _CONTENT}


def components() -> dict[str, Any]:
    """Return the error responses that the references point to."""
    statuses = sorted({kind.http_status for kind in QUERY_ERRORS.values()} | set(_OF_HTTP))
    return {f"E{status}": _error(status) for status in statuses}


def _error(status: int) -> dict[str, Any]:
    kinds = [kind for kind in QUERY_ERRORS.values() if kind.http_status == status]
    text = _OF_HTTP.get(status) or "; ".join(f"`{kind.code.value}`: {kind.default_message}" for kind in kinds)
    headers: dict[str, Any] = {h.STATUS: {"schema": {"type": "string", "enum": [code.value for code in ErrorCode]}}}
    if any(reason.code is kind.code for kind in kinds for reason in RefusalReason):
        headers[h.REASON] = {"schema": fields.RESULT[h.REASON]}
    if status == 415:
        headers["Accept-Encoding"] = {"schema": {"type": "string"}}
    if status in (429, 503):
        headers["Retry-After"] = {"schema": {"type": "string"}, "description": "Seconds."}
        headers[h.RETRY_AFTER_MS] = {"schema": fields.RESULT[h.RETRY_AFTER_MS]}
    return {"description": text, "headers": headers, "content": _CONTENT}
