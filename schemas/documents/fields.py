"""Descriptions of the record headers, shared by AsyncAPI (records) and OpenAPI (HTTP)."""

from typing import Any, Final

from schemas import headers as h
from schemas.errors import QUERY_ERRORS, RefusalReason
from schemas.names import MAX_NAME
from schemas.needs import Mode
from schemas.query import MAX_BATCH, MAX_ID
from schemas.result import OK
from schemas.send_time import MOST_LINGER_MS
from schemas.topics import RESULTS, TENANTS

_NUMBER: Final = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_WHOLE: Final = r"^[0-9]+$"
_RETRY_AFTER: Final = "Of a refusal, where it is known: when asking again may help, ms from then on."


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


NEEDS: Final = {
    h.DEADLINE_MS: _text(
        "When the answer is needed, ms since the epoch: of the clock of `infaas-sent-ns`, or the broker's without.",
        pattern=_NUMBER,
    ),
    h.LATENCY_MS: _text("How soon the answer is needed, ms after the broker appended the record.", pattern=_NUMBER),
    h.MIN_ACCURACY: _text("Least accuracy, 0 to 1, as measured on the task's validation set.", pattern=_NUMBER),
    h.MAX_COST: _text("Most that may be spent, USD per 1000 such queries.", pattern=_NUMBER),
    h.MODE: _text("Offline queries are computed when there is nothing else to do.", enum=[mode.value for mode in Mode]),
    h.TARGET: _text("An architecture, a version of it (`name@2`) or a variant instead of any of the task."),
    h.TENANT: _text("On whose behalf.", maxLength=MAX_NAME),
    h.ALLOW_LATE: _text("Answer late rather than `overloaded`.", enum=["true", "false"]),
    h.EXPLAIN: _text("Have the answer say why its variant was chosen.", enum=["true", "false"]),
}
TRACE: Final = {
    h.TRACEPARENT: _text("W3C trace context."),
    h.TRACESTATE: _text("W3C trace context."),
}
CONTENT: Final = {
    h.CONTENT_TYPE: _text("Of the value."),
    h.JSON_LENGTH: _text(
        "Bytes of JSON before the binary tensors; absent if the value is JSON alone; 0 in a query whose value is the "
        "raw data of the one input.",
        pattern=_WHOLE,
    ),
}
QUERY: Final = (
    {
        h.ID: _text("The idempotency key: one visible result per id.", minLength=1, maxLength=MAX_ID),
        h.REPLY_TO: _text(f"Topic of the result; `{RESULTS}{{task}}` if absent."),
        h.REPLY_STREAM: _text(
            "IP address and port of a receiver that takes the result over a connection, and the secret by which it "
            "knows who was asked, as `host:port secret`; then, if results come by TLS, a blank and the SHA-256 of its "
            "certificate in base64url. Where it cannot be reached the result goes to the topic."
        ),
        h.BATCH: _text(
            f"Number of inputs in the query, 1 if absent, at most {MAX_BATCH}. Another than it holds is refused.",
            pattern=_WHOLE,
        ),
        h.SENT_NS: _text("When it was sent, ns since the epoch.", pattern=_WHOLE),
        h.LINGER_NS: _text(
            "How long its sender has kept it, so that others went with it, before the broker appended it, in ns: of "
            f"this {MOST_LINGER_MS:g} ms count at most. A latency is counted from before that.",
            pattern=_WHOLE,
        ),
        h.REJECTED_UPSTREAM: _text(
            "Of a gateway: how many like it were refused there since it last sent one, because the system was full. "
            "Counts for nothing without its proof.",
            pattern=_WHOLE,
        ),
        h.REJECTED_UPSTREAM_PROOF: _text("Of a gateway: proves by the system's secret that the number is its own."),
        h.SIGNATURE: _text(
            "Proves the tenant by a key, as docs/security.md says: `v1`, the key's name, ms since the epoch, and the "
            "HMAC-SHA-256, joined by blanks."
        ),
        h.CORRELATION: _text(
            "Comes back with the result as it is, to pair it with the query: several may be asked under one id, and "
            "others may know the id. A random one cannot be guessed."
        ),
    }
    | NEEDS
    | CONTENT
    | TRACE
)
TENANT_QUERY: Final = {
    h.TASK: _text("The task asked for."),
    **{name: found for name, found in QUERY.items() if name not in (h.TENANT, h.REPLY_STREAM, h.SIGNATURE)},
    h.REPLY_TO: _text(
        f"Topic of the result, one of the tenant's own, `{TENANTS}{{tenant}}.` and more; if absent, that of results."
    ),
}
FORWARDED: Final = QUERY | {
    h.TASK: _text("The task asked for."),
    h.VARIANT: _text("The variant chosen."),
    h.TASK_QUEUE_NS: _text("From the client's send to the selector's choice.", pattern=_WHOLE),
    h.PREDICTED_NS: _text("From the choice to the result, as predicted.", pattern=_WHOLE),
    h.ACCURACY: _text("Of the chosen variant.", pattern=_NUMBER),
    h.COST: _text("USD per 1000 such queries.", pattern=_NUMBER),
    h.EXPLANATION: _text("Why the variant was chosen, in JSON."),
    h.COPIED: _text("Whether a copy went to a version that is tried, so that the results are compared.", enum=["true"]),
    h.ATTEMPTS: _text("How often the query was taken up before.", pattern=_WHOLE),
}
RESULT: Final = (
    {
        h.ID: _text("Of the query."),
        h.CORRELATION: _text("Of the query, if it had one."),
        h.STATUS: _text("Whether it is an answer, or which error.", enum=[OK, *(code.value for code in QUERY_ERRORS)]),
        h.WORKER: _text("Who computed it."),
        h.VARIANT_QUEUE_NS: _text("From the choice to the start of the computation.", pattern=_WHOLE),
        h.COMPUTE_NS: _text("Of the batch the query was computed in.", pattern=_WHOLE),
        h.LATE: _text("Of an answer that is ready after its deadline.", enum=["true"]),
        h.REASON: _text("Of a refusal: its reason.", enum=[reason.value for reason in RefusalReason]),
        h.RETRY_AFTER_MS: _text(_RETRY_AFTER, pattern=_WHOLE),
    }
    | {
        name: FORWARDED[name]
        for name in (h.VARIANT, h.TASK_QUEUE_NS, h.PREDICTED_NS, h.ACCURACY, h.COST, h.EXPLANATION)
    }
    | CONTENT
    | TRACE
)


def headers_schema(fields: dict[str, dict[str, Any]], required: list[str]) -> dict[str, Any]:
    """Return the JSON Schema of a record's headers; it allows additional headers."""
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": {"type": "string"}}


def error_table() -> list[dict[str, Any]]:
    """Return every error of a query with its fault, its HTTP status and the reasons that it may have."""
    return [
        {
            "code": kind.code.value,
            "fault": kind.fault.value,
            "http_status": kind.http_status,
            "retryable": kind.retryable,
            "message": kind.default_message,
            "reasons": {reason.value: reason.explanation for reason in RefusalReason if reason.code is kind.code},
        }
        for kind in QUERY_ERRORS.values()
    ]


def reason_table() -> str:
    """Return the reasons of refusals as a Markdown table for the documentation."""
    rows = (f"| `{reason}` | `{reason.code}` | {reason.explanation} |" for reason in RefusalReason)
    return "\n".join(("| reason | code | meaning |", "|---|---|---|", *rows))
