"""All expected errors, ordered by the party at fault and by the remedy.

    InfaasError
     ├── QueryError            one query failed; each code has a subclass, and the wire identifies it by the code
     └── OperatorError         a configuration is wrong; the message gives the remedy
          └── NotFound             the named object does not exist

The set of codes is closed: a client that handles every `ErrorCode` handles every error. A valid query that the system
does not compute is refused, and its error has a `RefusalReason` beside the code: answers, metrics and explanations show
the same reason. Every `Overloaded` is raised with one; other kinds of errors may have one by default.
"""

from enum import StrEnum
from typing import Any, ClassVar, Final, Self

from schemas.access import QuotaUse


class Fault(StrEnum):
    """Party that caused an error."""

    CLIENT = "client"
    MODEL = "model"
    SERVICE = "service"


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


_PROPERTIES: Final = {
    ErrorCode.INVALID_REQUEST: (Fault.CLIENT, 400, "INVALID_ARGUMENT", False, "the request is not valid"),
    ErrorCode.UNAUTHENTICATED: (
        *(Fault.CLIENT, 401, "UNAUTHENTICATED", False),
        "authentication is required: send a key or a token as `Authorization: Bearer <key>`",
    ),
    ErrorCode.UNKNOWN_TASK: (
        *(Fault.CLIENT, 404, "NOT_FOUND", False),
        "no such task, architecture or variant is registered",
    ),
    ErrorCode.UNSATISFIABLE: (
        *(Fault.CLIENT, 422, "FAILED_PRECONDITION", False),
        "no registered variant meets these needs",
    ),
    ErrorCode.FORBIDDEN: (Fault.CLIENT, 403, "PERMISSION_DENIED", False, "the caller lacks the permission for this"),
    ErrorCode.QUOTA_EXCEEDED: (
        *(Fault.CLIENT, 429, "RESOURCE_EXHAUSTED", True),
        "the tenant's quota is used up; try again later",
    ),
    ErrorCode.MODEL_FAILED: (Fault.MODEL, 500, "INTERNAL", False, "the model failed on this input"),
    ErrorCode.DEADLINE_EXCEEDED: (
        *(Fault.SERVICE, 504, "DEADLINE_EXCEEDED", True),
        "the deadline passed before the query could be computed",
    ),
    ErrorCode.OVERLOADED: (Fault.SERVICE, 503, "UNAVAILABLE", True, "too busy to meet the deadline; try again later"),
    ErrorCode.INTERNAL: (Fault.SERVICE, 500, "INTERNAL", True, "internal error"),
}
"""Fault, HTTP status, name of the gRPC status code, retryable, and default message of each code."""

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
    RESTARTED = "restarted", _OVERLOADED, "The text that was sent is void: a crash made another computation necessary."
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
    traceparent: str = ""
    """Span of the gateway that answers the query, if the query is sampled."""

    def __init_subclass__(cls, *, code: ErrorCode | None = None) -> None:
        """Give the error the properties of its code; without one, it keeps those of its base class."""
        if code is None:
            return
        cls.code = code
        cls.fault, cls.http_status, cls.grpc_status, cls.retryable, cls.default_message = _PROPERTIES[code]

    def __init__(
        self, message: str | None = None, *, reason: RefusalReason | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message or self.default_message)
        if reason is not None:
            self.reason = reason
        self.retry_after_s = retry_after_s
        """Seconds until a retry may succeed; None: unknown."""


class InvalidRequest(QueryError, code=ErrorCode.INVALID_REQUEST):
    """The request's bytes, headers or shapes are invalid."""


class Unauthenticated(QueryError, code=ErrorCode.UNAUTHENTICATED):
    """The caller is unknown: the key or token is missing, invalid or expired."""


class UnknownTask(QueryError, code=ErrorCode.UNKNOWN_TASK):
    """No registered task, architecture or variant has this name."""


class Unsatisfiable(QueryError, code=ErrorCode.UNSATISFIABLE):
    """No registered variant meets the needs at any load; the message names the nearest variant."""

    reason = RefusalReason.NEEDS_UNSATISFIABLE


class Forbidden(QueryError, code=ErrorCode.FORBIDDEN):
    """The caller lacks a permission."""


class QuotaExceeded(QueryError, code=ErrorCode.QUOTA_EXCEEDED):
    """The caller's quota or its share of the capacity is used up."""

    use: QuotaUse | None = None
    """Remaining quota, if the limit was that of a key or a token."""

    reason = RefusalReason.QUOTA


class ModelFailed(QueryError, code=ErrorCode.MODEL_FAILED):
    """The model raised an error on this input."""


class DeadlineExceeded(QueryError, code=ErrorCode.DEADLINE_EXCEEDED):
    """The deadline passed before the computation."""

    reason = RefusalReason.DEADLINE_PASSED


class Overloaded(QueryError, code=ErrorCode.OVERLOADED):
    """The system cannot answer at present, for a reason that may pass."""


class Internal(QueryError, code=ErrorCode.INTERNAL):
    """The system has a defect or an outage."""


QUERY_ERRORS: Final[dict[ErrorCode, type[QueryError]]] = {kind.code: kind for kind in QueryError.__subclasses__()}


def query_error(code: str, message: str, reason: str = "") -> QueryError:
    """Return the error for a result's `infaas-status` and `infaas-reason`.

    An unknown code, e.g. of a newer server, becomes `Internal`; an unknown reason becomes None.
    """
    known = code in ErrorCode.__members__.values()
    error = QUERY_ERRORS[ErrorCode(code)](message) if known else Internal(f"{code}: {message}")
    error.reason = RefusalReason.__members__.get(reason.upper())
    return error
