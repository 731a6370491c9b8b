"""Names of the record headers, which are also the HTTP headers. Values are UTF-8 text.

No component between the client and the worker reads the record value of a query. All data that they need is in the
headers.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

RawHeaders: TypeAlias = list[tuple[str, bytes]]

# -- set by the client -------------------------------------------------------------------------------------------------
ID: Final = "infaas-id"  # required; the idempotency key
REPLY_TO: Final = "infaas-reply-to"  # topic of the result; if absent, the task's or, for an ingress topic, the tenant's
REPLY_STREAM: Final = "infaas-reply-stream"  # `host:port token [fingerprint]` of a receiver of results over TCP
DEADLINE_MS: Final = "infaas-deadline-ms"  # absolute, ms since the epoch, by the clock of SENT_NS if that is given
LATENCY_MS: Final = "infaas-latency-ms"  # counted from the send time, or from the append time if that is unknown
MIN_ACCURACY: Final = "infaas-min-accuracy"  # 0..1
MAX_COST: Final = "infaas-max-cost"  # USD per 1000 queries; of a generative query per 1000 tokens
TTFT_MS: Final = "infaas-ttft-ms"  # of a generative query: from its send to the first token
TPOT_MS: Final = "infaas-tpot-ms"  # of a generative query: mean time of each token after the first
MAX_TOKENS: Final = "infaas-max-tokens"  # of a generative query: maximum tokens of its answer
STREAM: Final = "infaas-stream"  # `true`: the answer is wanted in parts, as it is made
MODE: Final = "infaas-mode"  # `online` or `offline`
TARGET: Final = "infaas-target"  # an architecture, a version of it (`name@2`) or a variant; absent: any
TENANT: Final = "infaas-tenant"
SIGNATURE: Final = "infaas-signature"  # proves the tenant; see `process/security/signature.py`
BATCH: Final = "infaas-batch"  # number of inputs in the query; 1 if absent
LINGER_NS: Final = "infaas-linger-ns"  # time that the sender held the query to batch requests, before the append
REJECTED_UPSTREAM: Final = "infaas-rejected-upstream"  # similar queries that the gateway refused since its last one
REJECTED_UPSTREAM_PROOF: Final = "infaas-x-rejected-upstream-proof"  # see `process/security/signature.py`
ALLOW_LATE: Final = "infaas-allow-late"  # `true`: answer late rather than `overloaded`
EXPLAIN: Final = "infaas-explain"  # `true`: the result explains the choice of the variant
CONTENT_TYPE: Final = "content-type"
JSON_LENGTH: Final = "inference-header-content-length"  # OIP binary extension: bytes of JSON before the tensors
CORRELATION: Final = "infaas-correlation"  # returned with the result to match it to the query; the sender's secret
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

# -- added at each hop -------------------------------------------------------------------------------------------------
SENT_NS: Final = "infaas-sent-ns"  # send time, ns since the epoch, by the broker's clock, or by a client's own
TASK: Final = "infaas-task"  # set by the client in a tenant's ingress topic, otherwise by the selector
CHOICE: Final = "infaas-choice"  # the values of `CHOSEN` in a forwarded query; a worker copies them to the result
TASK_QUEUE_NS: Final = "infaas-task-queue-ns"  # time from the client's send to the selector's decision
PREDICTED_NS: Final = "infaas-predicted-ns"  # the selector's prediction: from its decision to the result
ACCURACY: Final = "infaas-accuracy"  # of the chosen variant
COST: Final = "infaas-cost"  # USD per 1000 such queries, or tokens of a generative answer, as charged
EXPLANATION: Final = "infaas-explanation"  # JSON
COPIED: Final = "infaas-copied"  # `true`: a shadow version computes a copy, and the two results are compared
ATTEMPTS: Final = "infaas-attempts"  # number of earlier attempts to process the query

# -- of a part of a result ---------------------------------------------------------------------------------------------
PART: Final = "infaas-part"  # name of the attempt and number of the part, separated by a blank

# -- of a result -------------------------------------------------------------------------------------------------------
STATUS: Final = "infaas-status"  # `ok` or an error code
VARIANT: Final = "infaas-variant"
WORKER: Final = "infaas-worker"
VARIANT_QUEUE_NS: Final = "infaas-variant-queue-ns"  # time from the selector's send to the start of the computation
COMPUTE_NS: Final = "infaas-compute-ns"  # time of the batch the query was computed in
LATE: Final = "infaas-late"  # `true`: the answer came after its deadline; absent: in time, or no deadline
REASON: Final = "infaas-reason"  # of a refusal: a `RefusalReason`
RETRY_AFTER_MS: Final = "infaas-retry-after-ms"  # of a refusal: ms until a retry may succeed

CHOSEN: Final = (VARIANT, ACCURACY, COST, TASK_QUEUE_NS, PREDICTED_NS)
"""Headers of a result whose values the selector states in `CHOICE`, in this order and separated by blanks: one header
costs the selector and Kafka less than five."""

# Headers of the needs, by their names as request parameters and in the client library.
NEEDS: Final = {
    "latency_ms": LATENCY_MS,
    "min_accuracy": MIN_ACCURACY,
    "max_cost": MAX_COST,
    "ttft_ms": TTFT_MS,
    "tpot_ms": TPOT_MS,
    "max_tokens": MAX_TOKENS,
    "mode": MODE,
    "target": TARGET,
    "tenant": TENANT,
    "allow_late": ALLOW_LATE,
    "explain": EXPLAIN,
}

GENERATIVE_NEEDS: Final = ("ttft_ms", "tpot_ms", "max_tokens")
"""Needs that only generative tasks accept."""

SLO: Final = {"x-slo-ttft-ms": TTFT_MS, "x-slo-tpot-ms": TPOT_MS}
"""Headers that gateways of Kubernetes set for generative queries, and the needs that they state."""

TRACE: Final = (TRACEPARENT, TRACESTATE)

# Headers that are copied from a query to all records that result from it.
RETURNED: Final = (CORRELATION, *TRACE)


def as_text(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Return the headers by name; the last of a repeated name wins.

    Raises:
        UnicodeError: a name or a value is not UTF-8.
    """
    fields = {name: value.decode() if value else "" for name, value in headers}
    names = "".join(fields)
    if not names.isascii():
        names.encode()  # fails for names that were decoded with `surrogateescape`
    return fields


def expand_choice(fields: dict[str, str]) -> None:
    """Replace the header `CHOICE` of a forwarded query by the headers that it stands for."""
    choice = fields.pop(CHOICE, None)
    if choice is not None:
        fields.update(zip(CHOSEN, choice.split(" "), strict=False))


def is_count(text: str) -> bool:
    """Return true if the value of a header is a whole number of at most 19 ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) < 20


def value_text(value: object) -> str:
    """Return a value as the text of a header or of a query string."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
