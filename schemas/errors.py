"""All expected errors, ordered by the party at fault and by the remedy.

    InfaasError
     ├── QueryError            one query failed; the wire identifies these by `code`
     │    ├── InvalidRequest       client, 400, INVALID_ARGUMENT
     │    ├── Unauthenticated      client, 401, UNAUTHENTICATED
     │    ├── UnknownTask          client, 404, NOT_FOUND
     │    ├── Unsatisfiable        client, 422, FAILED_PRECONDITION: no registered variant can meet the needs
     │    ├── Forbidden            client, 403, PERMISSION_DENIED
     │    ├── QuotaExceeded        client, 429, RESOURCE_EXHAUSTED, retry
     │    ├── ModelFailed          model, 500, INTERNAL
     │    ├── DeadlineExceeded     service, 504, DEADLINE_EXCEEDED, retry
     │    ├── Overloaded           service, 503, UNAVAILABLE, retry
     │    └── Internal             service, 500, INTERNAL, retry
     └── OperatorError         a configuration is wrong; the message gives the remedy
          └── NotFound             the named object does not exist

The set of codes is closed: a client that handles every `ErrorCode` handles every error.
"""

from enum import StrEnum
from typing import Any, ClassVar, Final

from schemas.principal import QuotaUse


class ErrorCode(StrEnum):
    """Values of the header `infaas-status` other than `ok`."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    UNKNOWN_TASK = "unknown_task"
    UNSATISFIABLE = "unsatisfiable"
    FORBIDDEN = "forbidden"
    QUOTA_EXCEEDED = "quota_exceeded"
    MODEL_FAILED = "model_failed"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    OVERLOADED = "overloaded"
    INTERNAL = "internal"


class Fault(StrEnum):
    """Party that caused an error."""

    CLIENT = "client"
    MODEL = "model"
    SERVICE = "service"


class InfaasError(Exception):
    """Base class of all errors that this project raises deliberately."""


class OperatorError(InfaasError):
    """A setting, file or service that a person controls is not in the required state."""


class NotFound(OperatorError):
    """The named object does not exist, or the caller may not see it."""


class QueryError(InfaasError):
    """Failure of one query. `str(error)` is the message for the client."""

    code: ClassVar[ErrorCode]
    fault: ClassVar[Fault]
    http_status: ClassVar[int]
    grpc_status: ClassVar[str]
    """Name of the gRPC status code."""
    retryable: ClassVar[bool]
    default_message: ClassVar[str]

    explanation: Any = None
    """Candidates that the selector evaluated, if it refused a query with the header `infaas-explain`."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.default_message)
        self.retry_after_s = retry_after_s
        """Seconds until a retry may succeed; None: unknown."""


class InvalidRequest(QueryError):
    """The request's bytes, headers or shapes are invalid."""

    code = ErrorCode.INVALID_REQUEST
    fault = Fault.CLIENT
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    retryable = False
    default_message = "the request is not valid"


class Unauthenticated(QueryError):
    """The caller is unknown: the key or token is missing, invalid or expired."""

    code = ErrorCode.UNAUTHENTICATED
    fault = Fault.CLIENT
    http_status = 401
    grpc_status = "UNAUTHENTICATED"
    retryable = False
    default_message = "say who you are: send a key or a token as `Authorization: Bearer <key>`"


class UnknownTask(QueryError):
    """No registered task, architecture or variant has this name."""

    code = ErrorCode.UNKNOWN_TASK
    fault = Fault.CLIENT
    http_status = 404
    grpc_status = "NOT_FOUND"
    retryable = False
    default_message = "no such task, architecture or variant is registered"


class Unsatisfiable(QueryError):
    """No registered variant meets the needs at any load; the message names the nearest variant."""

    code = ErrorCode.UNSATISFIABLE
    fault = Fault.CLIENT
    http_status = 422
    grpc_status = "FAILED_PRECONDITION"
    retryable = False
    default_message = "no registered variant meets these needs"


class Forbidden(QueryError):
    """The caller lacks a permission."""

    code = ErrorCode.FORBIDDEN
    fault = Fault.CLIENT
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    retryable = False
    default_message = "this caller may not do this"


class QuotaExceeded(QueryError):
    """The caller's quota or its share of the capacity is used up."""

    use: QuotaUse | None = None
    """Remaining quota, if the limit was that of a key or a token."""

    code = ErrorCode.QUOTA_EXCEEDED
    fault = Fault.CLIENT
    http_status = 429
    grpc_status = "RESOURCE_EXHAUSTED"
    retryable = True
    default_message = "the tenant's quota is used up; try again later"


class ModelFailed(QueryError):
    """The model raised an error on this input."""

    code = ErrorCode.MODEL_FAILED
    fault = Fault.MODEL
    http_status = 500
    grpc_status = "INTERNAL"
    retryable = False
    default_message = "the model failed on this input"


class DeadlineExceeded(QueryError):
    """The deadline passed before the query was computed."""

    code = ErrorCode.DEADLINE_EXCEEDED
    fault = Fault.SERVICE
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    default_message = "the deadline passed before the query could be computed"


class Overloaded(QueryError):
    """At the present load, no instance can meet the deadline."""

    code = ErrorCode.OVERLOADED
    fault = Fault.SERVICE
    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True
    default_message = "too busy to meet the deadline; try again later"


class Internal(QueryError):
    """The system has a defect or an outage."""

    code = ErrorCode.INTERNAL
    fault = Fault.SERVICE
    http_status = 500
    grpc_status = "INTERNAL"
    retryable = True
    default_message = "internal error"


QUERY_ERRORS: Final[dict[ErrorCode, type[QueryError]]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        Unauthenticated,
        UnknownTask,
        Unsatisfiable,
        Forbidden,
        QuotaExceeded,
        ModelFailed,
        DeadlineExceeded,
        Overloaded,
        Internal,
    )
}


def query_error(code: str, message: str) -> QueryError:
    """Return the error for a result's `infaas-status`; an unknown code, e.g. of a newer server, becomes `Internal`."""
    known = code in ErrorCode.__members__.values()
    return QUERY_ERRORS[ErrorCode(code)](message) if known else Internal(f"{code}: {message}")
