"""Everything that can go wrong, by whose fault it is and what to do about it.

    InfaasError
     ├── QueryError            one query failed; the wire knows these by `code`
     │    ├── InvalidRequest       client, 400, INVALID_ARGUMENT
     │    ├── Unauthenticated      client, 401, UNAUTHENTICATED
     │    ├── UnknownTask          client, 404, NOT_FOUND
     │    ├── Unsatisfiable        client, 422, FAILED_PRECONDITION: nothing registered can meet the needs
     │    ├── Forbidden            client, 403, PERMISSION_DENIED
     │    ├── QuotaExceeded        client, 429, RESOURCE_EXHAUSTED, retry
     │    ├── ModelFailed          model, 500, INTERNAL
     │    ├── DeadlineExceeded     service, 504, DEADLINE_EXCEEDED, retry
     │    ├── Overloaded           service, 503, UNAVAILABLE, retry
     │    └── Internal             service, 500, INTERNAL, retry
     └── OperatorError         a person set something up wrong; the message says what to do
          └── NotFound             what they named does not exist

The table is closed: a client may switch over `ErrorCode` and be sure to have seen every case.
"""

from enum import StrEnum
from typing import Any, ClassVar, Final

from schemas.principal import QuotaUse


class ErrorCode(StrEnum):
    """The `infaas-status` values other than `ok`."""

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
    """The side whose fault an error is."""

    CLIENT = "client"
    MODEL = "model"
    SERVICE = "service"


class InfaasError(Exception):
    """Root of all errors this project raises on purpose."""


class OperatorError(InfaasError):
    """A setting, a file or a service a person controls is not as it must be."""


class NotFound(OperatorError):
    """What was named does not exist, or not for who asks."""


class QueryError(InfaasError):
    """One query failed. `str(error)` is what the client reads."""

    code: ClassVar[ErrorCode]
    fault: ClassVar[Fault]
    http_status: ClassVar[int]
    grpc_status: ClassVar[str]
    """Name of the status code that gRPC's clients get."""
    retryable: ClassVar[bool]
    default_message: ClassVar[str]

    explanation: Any = None
    """What the selector considered, where it refused a query that asked to have its choice explained."""

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.default_message)
        self.retry_after_s = retry_after_s
        """Seconds until asking again may help; None: nobody knows."""


class InvalidRequest(QueryError):
    """The request's bytes, headers or shapes are wrong."""

    code = ErrorCode.INVALID_REQUEST
    fault = Fault.CLIENT
    http_status = 400
    grpc_status = "INVALID_ARGUMENT"
    retryable = False
    default_message = "the request is not valid"


class Unauthenticated(QueryError):
    """Nobody knows who asks: there is no key or token, or one that is not valid, or no longer."""

    code = ErrorCode.UNAUTHENTICATED
    fault = Fault.CLIENT
    http_status = 401
    grpc_status = "UNAUTHENTICATED"
    retryable = False
    default_message = "say who you are: send a key or a token as `Authorization: Bearer <key>`"


class UnknownTask(QueryError):
    """No such task, architecture or variant is registered."""

    code = ErrorCode.UNKNOWN_TASK
    fault = Fault.CLIENT
    http_status = 404
    grpc_status = "NOT_FOUND"
    retryable = False
    default_message = "no such task, architecture or variant is registered"


class Unsatisfiable(QueryError):
    """Nothing registered meets the needs, whatever the load; the message names the nearest variant."""

    code = ErrorCode.UNSATISFIABLE
    fault = Fault.CLIENT
    http_status = 422
    grpc_status = "FAILED_PRECONDITION"
    retryable = False
    default_message = "no registered variant meets these needs"


class Forbidden(QueryError):
    """The caller may not do this."""

    code = ErrorCode.FORBIDDEN
    fault = Fault.CLIENT
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    retryable = False
    default_message = "this caller may not do this"


class QuotaExceeded(QueryError):
    """The tenant has used up its share."""

    use: QuotaUse | None = None
    """What is left of the quota, where it is that of a key or a token."""

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
    """The present load leaves no way to meet the deadline."""

    code = ErrorCode.OVERLOADED
    fault = Fault.SERVICE
    http_status = 503
    grpc_status = "UNAVAILABLE"
    retryable = True
    default_message = "too busy to meet the deadline; try again later"


class Internal(QueryError):
    """A defect or an outage on our side."""

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
    """Make the error that a result's `infaas-status` stands for; an unknown code, of a newer server, is `Internal`."""
    known = code in ErrorCode.__members__.values()
    return QUERY_ERRORS[ErrorCode(code)](message) if known else Internal(f"{code}: {message}")
