"""A result record: status and times in the headers, a v2 response (or `{"error": ...}`) in the value."""

from typing import Any, Final

import msgspec

from schemas import headers as h
from schemas.errors import QueryError, query_error

OK: Final = "ok"


class Result(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Answer to one query as a client sees it: a response or an error."""

    id: str
    correlation: str = ""
    """Secret of the query's sender that pairs the two."""
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
    """USD per 1000 such queries."""
    explanation: str = ""
    """JSON, where the query asked for it."""
    content_type: str = "application/json"
    json_length: int | None = None
    """Bytes of JSON before the binary tensors, if any."""
    late: bool = False
    """Whether it is known to have come after its deadline."""
    retry_after_s: float | None = None
    """Of a refusal: seconds until asking again may help, as predicted when it was refused."""

    def error(self) -> QueryError | None:
        """The error this result stands for, or None if it is an answer."""
        return None if self.status == OK else self.failure()

    def failure(self, explanation: Any = None) -> QueryError:
        """The error this result stands for, which is no answer.

        Raise it by no name: a frame that holds what it raised is a cycle, and garbage that only the collector finds.
        """
        found = query_error(self.status, error_message(self.value))
        found.retry_after_s = self.retry_after_s
        found.explanation = explanation
        return found


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The value of an error result, and the body of every HTTP error."""

    error: str
    explanation: Any = None
    """Over HTTP, of a refused query that asked to have it explained: what was considered, and why it lost."""


_decode_error = msgspec.json.Decoder(ErrorBody)
_encode = msgspec.json.Encoder().encode


def error_value(message: str, explanation: Any = None) -> bytes:
    """Encode the value of an error result: `{"error": message}`; what of it is no Unicode becomes question marks."""
    return _encode(ErrorBody(message.encode(errors="replace").decode(), explanation))


def error_explanation(value: bytes) -> Any:
    """Read the explanation inside an error result's value; None if there is none."""
    try:
        return _decode_error.decode(value).explanation
    except msgspec.MsgspecError:
        return None


def error_message(value: bytes) -> str:
    """Read the message inside an error result's value; of a value that is none, its beginning."""
    try:
        return _decode_error.decode(value).error
    except msgspec.MsgspecError:
        return value[:200].decode(errors="replace")


def parse_result(fields: dict[str, str], value: bytes) -> Result:
    """Read a result from its headers and value; raises KeyError or ValueError for a record that is none."""
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
        retry_after_s=float(retry_ms) / 1e3 if retry_ms else None,
    )
