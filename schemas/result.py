"""Result records: status and times in the headers, a v2 response (or `{"error": ...}`) in the value."""

from typing import Any, Final

import msgspec

from schemas import headers as h
from schemas.errors import QueryError, RefusalReason, query_error

OK: Final = "ok"


class Result(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Answer to one query as a client receives it: a response or an error."""

    id: str
    correlation: str = ""
    """Random text from the query's sender, which matches the result to the query."""
    status: str
    """`ok` or an `ErrorCode`."""
    value: bytes
    variant: str = ""
    worker: str = ""
    task_queue_ns: int = 0
    variant_queue_ns: int = 0
    compute_ns: int = 0
    predicted_ns: int = 0
    accuracy: float | None = None
    cost: float | None = None
    """USD per 1000 such queries, or per 1000 tokens of a generative answer."""
    explanation: str = ""
    """JSON, if the query requested it."""
    content_type: str = "application/json"
    json_length: int | None = None
    """Bytes of JSON before the binary tensors, if any."""
    late: bool = False
    """True if the worker knows that the answer came after its deadline."""
    reason: str = ""
    """Of a refusal: a `RefusalReason`, or one that only newer versions know."""
    retry_after_s: float | None = None
    """Of a refusal: seconds until a retry may succeed, as predicted at the time of the refusal."""
    traceparent: str = ""
    """Span of the gateway that answers the query, if the query is sampled."""

    def error(self) -> QueryError | None:
        """Return the error that this result contains; None if it is an answer."""
        return None if self.status == OK else self.failure()

    def failure(self, explanation: Any = None) -> QueryError:
        """Return the error of a result whose status is not `ok`.

        Do not bind the error to a local name before raising it: the frame and the traceback would form a reference
        cycle that only the garbage collector can free.
        """
        found = query_error(self.status, error_message(self.value), self.reason)
        found.retry_after_s = self.retry_after_s
        found.explanation = explanation
        return found


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """Value of an error result, and body of every HTTP error."""

    error: str
    reason: str = ""
    """Of a refusal: its `RefusalReason`, as in the header `infaas-reason`."""
    explanation: Any = None
    """Over HTTP, for a refused query that requested an explanation: the candidates, and why each was not chosen."""


_decode_error = msgspec.json.Decoder(ErrorBody)
_encode = msgspec.json.Encoder().encode


def error_value(message: str, reason: RefusalReason | None = None, explanation: Any = None) -> bytes:
    """Encode the value of an error result, `{"error": message}`; characters that are not valid Unicode become `?`."""
    return _encode(ErrorBody(message.encode(errors="replace").decode(), reason or "", explanation))


def error_explanation(value: bytes) -> Any:
    """Return the explanation in an error result's value; None if there is none."""
    try:
        return _decode_error.decode(value).explanation
    except msgspec.MsgspecError:
        return None


def error_message(value: bytes) -> str:
    """Return the message in an error result's value; if the value is malformed, return its beginning."""
    try:
        return _decode_error.decode(value).error
    except msgspec.MsgspecError:
        return value[:200].decode(errors="replace")


def parse_result(fields: dict[str, str], value: bytes) -> Result:
    """Read a result from its headers and value.

    Raises:
        KeyError: the record is not a result: a header is missing.
        ValueError: the record is not a result: a header is malformed.
    """
    get = fields.get
    accuracy, cost, json_length, retry_ms = get(h.ACCURACY), get(h.COST), get(h.JSON_LENGTH), get(h.RETRY_AFTER_MS)
    return Result(
        id=fields[h.ID],
        correlation=get(h.CORRELATION, ""),
        status=fields[h.STATUS],
        value=value,
        variant=get(h.VARIANT, ""),
        worker=get(h.WORKER, ""),
        task_queue_ns=int(get(h.TASK_QUEUE_NS, "0")),
        variant_queue_ns=int(get(h.VARIANT_QUEUE_NS, "0")),
        compute_ns=int(get(h.COMPUTE_NS, "0")),
        predicted_ns=int(get(h.PREDICTED_NS, "0")),
        accuracy=float(accuracy) if accuracy else None,
        cost=float(cost) if cost else None,
        explanation=get(h.EXPLANATION, ""),
        content_type=get(h.CONTENT_TYPE, "application/json"),
        json_length=int(json_length) if json_length else None,
        late=get(h.LATE) == "true",
        reason=get(h.REASON, ""),
        retry_after_s=float(retry_ms) / 1e3 if retry_ms else None,
    )
