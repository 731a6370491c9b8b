"""Names of the record headers, which are also the HTTP headers. Values are UTF-8 text.

A query's record value travels unread from the client to the worker; whatever the parts between need is here.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

RawHeaders: TypeAlias = list[tuple[str, bytes]]

# -- set by the client -------------------------------------------------------------------------------------------------
ID: Final = "infaas-id"  # required; the idempotency key
REPLY_TO: Final = "infaas-reply-to"  # topic of the result; the task's or, out of its ingress, the tenant's if absent
REPLY_STREAM: Final = "infaas-reply-stream"  # `host:port token [fingerprint]` of who takes the result over a connection
DEADLINE_MS: Final = "infaas-deadline-ms"  # absolute, ms since the epoch: of the clock that SENT_NS is of, if given
LATENCY_MS: Final = "infaas-latency-ms"  # from when the broker appended the record
MIN_ACCURACY: Final = "infaas-min-accuracy"  # 0..1
MAX_COST: Final = "infaas-max-cost"  # USD per 1000 queries
MODE: Final = "infaas-mode"  # `online` or `offline`
TARGET: Final = "infaas-target"  # an architecture, a version of it (`name@2`) or a variant instead of any
TENANT: Final = "infaas-tenant"
SIGNATURE: Final = "infaas-signature"  # proves the tenant; see `security/signature.py`
BATCH: Final = "infaas-batch"  # number of inputs in the query; 1 if absent
LINGER_NS: Final = "infaas-linger-ns"  # how long its sender kept it for others to go with it, before it was appended
TURNED_AWAY: Final = "infaas-turned-away"  # of a gateway: like queries that it refused since the one before
TURNED_AWAY_PROOF: Final = "infaas-x-turned-away-proof"  # that it is a gateway's; see `security/turned_away.py`
ALLOW_LATE: Final = "infaas-allow-late"  # `true`: answer late rather than `overloaded`
EXPLAIN: Final = "infaas-explain"  # `true`: the result says why this variant was chosen
CONTENT_TYPE: Final = "content-type"
JSON_LENGTH: Final = "inference-header-content-length"  # OIP binary extension: bytes of JSON before the tensors
CORRELATION: Final = "infaas-correlation"  # comes back with the result: the sender's secret, which pairs them
TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

# -- added at each hop -------------------------------------------------------------------------------------------------
SENT_NS: Final = "infaas-sent-ns"  # when it was sent, ns since the epoch: of the broker's clock, but for a client's own
TASK: Final = "infaas-task"  # set by a client in a tenant's ingress topic, else by the selector
TASK_QUEUE_NS: Final = "infaas-task-queue-ns"  # time from the client's send to the selector's decision
PREDICTED_NS: Final = "infaas-predicted-ns"  # the selector's prediction: from its decision to the result
ACCURACY: Final = "infaas-accuracy"  # of the chosen variant
COST: Final = "infaas-cost"  # USD per 1000 such queries, as charged
EXPLANATION: Final = "infaas-explanation"  # JSON
COPIED: Final = (
    "infaas-copied"  # `true`: a copy goes to a version that is tried; its result is compared with this one's
)
ATTEMPTS: Final = "infaas-attempts"  # times the query was taken up before

# -- of a result -------------------------------------------------------------------------------------------------------
STATUS: Final = "infaas-status"  # `ok` or an error code
VARIANT: Final = "infaas-variant"
WORKER: Final = "infaas-worker"
VARIANT_QUEUE_NS: Final = "infaas-variant-queue-ns"  # time from the selector's send to the start of the computation
COMPUTE_NS: Final = "infaas-compute-ns"  # time of the batch the query was computed in
LATE: Final = "infaas-late"  # `true`: the answer came after its deadline; absent: it was in time, or had none
RETRY_AFTER_MS: Final = "infaas-retry-after-ms"  # of a refusal: when asking again may help, ms from then on

# What a query may need, by the name that it has as a parameter of a request and in the client library.
NEEDS: Final = {
    "latency_ms": LATENCY_MS,
    "min_accuracy": MIN_ACCURACY,
    "max_cost": MAX_COST,
    "mode": MODE,
    "target": TARGET,
    "tenant": TENANT,
    "allow_late": ALLOW_LATE,
    "explain": EXPLAIN,
}

TRACE: Final = (TRACEPARENT, TRACESTATE)

# Copied from the query to everything that follows from it.
RETURNED: Final = (CORRELATION, *TRACE)


def as_text(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers by name; the last of a repeated name wins.

    Raises:
        UnicodeError: a name or a value is not UTF-8.
    """
    fields = {name: value.decode() if value else "" for name, value in headers}
    names = "".join(fields)
    if not names.isascii():
        names.encode()  # raises what was read with `surrogateescape`
    return fields
