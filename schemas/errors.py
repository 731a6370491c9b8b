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

The set of codes is closed: a client that handles every `ErrorCode` handles every error. A valid query that the system
does not compute is refused, and its error has a `RefusalReason` beside the code: answers, metrics and explanations show
the same reason. Every `Overloaded` is raised with one; other kinds of errors may have one by default.
"""

from enum import StrEnum
from typing import Any, ClassVar, Final, Self

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


_OVERLOADED: Final = ErrorCode.OVERLOADED


class RefusalReason(StrEnum):
    """Values of the header `infaas-reason`: the part of the system that refused a query, in the order it passes them.

    Clients need not distinguish them: the code determines what helps. New versions may add reasons.
    """

    code: ErrorCode
    """Code of the errors with this reason."""
    explanation: str
    """One sentence for the documentation."""

    # -- gateway, client library: limits
    CONNECTION_LIMIT = "connection_limit", _OVERLOADED, "The gateway has its maximum of open connections."
    CALL_LIMIT = "call_limit", _OVERLOADED, "The gateway has its maximum of open streams and uploads."
    CLIENT_CALL_LIMIT = "client_call_limit", _OVERLOADED, "This client has its maximum of open streams and uploads."
    ARRIVAL_LIMIT = "arrival_limit", _OVERLOADED, "Too many gRPC messages are still arriving at the gateway."
    QUOTA = "quota", ErrorCode.QUOTA_EXCEEDED, "A quota of the key or the tenant is used up; the message names it."
    BODY_MEMORY = "body_memory", _OVERLOADED, "The gateway holds its maximum of bytes of requests."
    CONCURRENCY_LIMIT = "concurrency_limit", _OVERLOADED, "With more such queries in flight, answers come late."
    RECENTLY_REFUSED = "recently_refused", _OVERLOADED, "A selector just refused similar queries."
    IN_FLIGHT_LIMIT = "in_flight_limit", _OVERLOADED, "The gateway waits for its maximum of results."
    ADMIN_QUEUE = "admin_queue", _OVERLOADED, "Too many requests to the admin API wait before this one."

    # -- gateway, client library: outages
    KAFKA_UNAVAILABLE = "kafka_unavailable", _OVERLOADED, "Kafka does not acknowledge queries."
    POSTGRES_UNAVAILABLE = "postgres_unavailable", _OVERLOADED, "Postgres cannot be reached."
    ARTIFACTS_UNAVAILABLE = "artifacts_unavailable", _OVERLOADED, "The store of artifacts cannot keep a file."
    ISSUER_UNAVAILABLE = "issuer_unavailable", _OVERLOADED, "The keys of the token issuer have not been fetched yet."
    STOPPING = "stopping", _OVERLOADED, "The gateway is stopping; another one may answer."

    # -- selector
    NEEDS_UNSATISFIABLE = "needs_unsatisfiable", ErrorCode.UNSATISFIABLE, "No registered variant meets the needs."
    DEADLINE_PASSED = "deadline_passed", ErrorCode.DEADLINE_EXCEEDED, "The deadline passed before the computation."
    INSTANCES_BUSY = "instances_busy", _OVERLOADED, "All instances that meet the needs are too busy for the deadline."
    BEYOND_FAIR_SHARE = "beyond_fair_share", _OVERLOADED, "Under overload, the tenant exceeds its fair share."
    TOO_COSTLY = "too_costly", _OVERLOADED, "Under overload, cheaper queries of the tenant take precedence."
    NOT_LOADED = "not_loaded", _OVERLOADED, "A variant that meets the needs is being loaded."
    NO_WORKER = "no_worker", _OVERLOADED, "No worker could load a variant that meets the needs."
    LOAD_FAILED = "load_failed", ErrorCode.MODEL_FAILED, "The variants that meet the needs cannot be loaded."

    # -- worker
    WORKER_CRASHED = "worker_crashed", ErrorCode.MODEL_FAILED, "Workers died repeatedly while they computed the query."
    COMPUTE_TIMEOUT = "compute_timeout", ErrorCode.MODEL_FAILED, "Computing the query took longer than its limit."
    OUT_OF_MEMORY = "out_of_memory", ErrorCode.MODEL_FAILED, "The worker's memory does not suffice for this query."

    # -- waiting for the answer
    NO_RESULT = "no_result", ErrorCode.DEADLINE_EXCEEDED, "No result came in time."
    ACT_TIMEOUT = "act_timeout", ErrorCode.DEADLINE_EXCEEDED, "A request to the admin API took too long."

    def __new__(cls, value: str, code: ErrorCode, explanation: str) -> Self:
        """Create a member with its code and its explanation."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.code, member.explanation = code, explanation
        return member


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

    reason: RefusalReason | None = None
    """Reason of a refusal; None for other errors, and for a reason that only newer versions know."""
    explanation: Any = None
    """Candidates that the selector evaluated, if it refused a query with the header `infaas-explain`."""

    def __init__(
        self, message: str | None = None, *, reason: RefusalReason | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message or self.default_message)
        if reason is not None:
            self.reason = reason
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
    default_message = "authentication is required: send a key or a token as `Authorization: Bearer <key>`"


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
    reason = RefusalReason.NEEDS_UNSATISFIABLE


class Forbidden(QueryError):
    """The caller lacks a permission."""

    code = ErrorCode.FORBIDDEN
    fault = Fault.CLIENT
    http_status = 403
    grpc_status = "PERMISSION_DENIED"
    retryable = False
    default_message = "the caller lacks the permission for this"


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
    reason = RefusalReason.QUOTA


class ModelFailed(QueryError):
    """The model raised an error on this input."""

    code = ErrorCode.MODEL_FAILED
    fault = Fault.MODEL
    http_status = 500
    grpc_status = "INTERNAL"
    retryable = False
    default_message = "the model failed on this input"


class DeadlineExceeded(QueryError):
    """The deadline passed before the computation."""

    code = ErrorCode.DEADLINE_EXCEEDED
    fault = Fault.SERVICE
    http_status = 504
    grpc_status = "DEADLINE_EXCEEDED"
    retryable = True
    default_message = "the deadline passed before the query could be computed"
    reason = RefusalReason.DEADLINE_PASSED


class Overloaded(QueryError):
    """The system cannot answer at present, for a reason that may pass."""

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


def query_error(code: str, message: str, reason: str = "") -> QueryError:
    """Return the error for a result's `infaas-status` and `infaas-reason`.

    An unknown code, e.g. of a newer server, becomes `Internal`; an unknown reason becomes None.
    """
    known = code in ErrorCode.__members__.values()
    error = QUERY_ERRORS[ErrorCode(code)](message) if known else Internal(f"{code}: {message}")
    error.reason = RefusalReason.__members__.get(reason.upper())
    return error
