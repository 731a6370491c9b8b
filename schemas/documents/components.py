"""Components that AsyncAPI (records) and OpenAPI (HTTP) share, and error responses.

The components are the JSON Schema (2020-12) of the wire structs, which msgspec derives from their types, and of the
record headers. Each error response is defined once, and operations refer to it.
"""

from typing import Any, Final

import msgspec

from schemas import headers as h
from schemas.errors import QUERY_ERRORS, ErrorCode, RefusalReason
from schemas.generation import AnswerPart
from schemas.jobs import Job
from schemas.load_classes import SelectorLoad
from schemas.names import MAX_NAME
from schemas.oip import RequestHead, ResponseHead
from schemas.query import MAX_BATCH, MAX_ID, MOST_LINGER_MS, Mode
from schemas.result import OK, ErrorBody
from schemas.status import Demand, WorkerStatus
from schemas.tensors import DTYPES
from schemas.topics import RESULTS, TENANTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ROOTS: Final = {
    "InferRequest": RequestHead,
    "InferResponse": ResponseHead,
    "WorkerStatus": WorkerStatus,
    "Demand": Demand,
    "SelectorLoad": SelectorLoad,
    "AnswerPart": AnswerPart,
    "Job": Job,
}
"""Structs by their names in the documents."""
_DATA: Final = {
    "description": "The elements, row-major, flat or nested; absent if `parameters.binary_data_size` is given.",
    "type": "array",
}


REF: Final = "#/components/schemas/{name}"
"""Template of references to schemas in AsyncAPI and OpenAPI."""


def ref(schema: str) -> dict[str, Any]:
    """Return a reference to a schema."""
    return {"$ref": REF.format(name=schema)}


def struct_schemas(template: str) -> dict[str, Any]:
    """Return the JSON Schemas by name; `template` is the template of references, e.g. `REF`."""
    kinds = [*ROOTS.values(), ErrorBody]
    _, found = msgspec.json.schema_components(kinds, ref_template=template)
    renamed = {kind.__name__: name for name, kind in ROOTS.items()}
    schemas = {renamed.get(name, name): _renamed(schema, renamed, template) for name, schema in sorted(found.items())}
    tensor = schemas["TensorHead"]["properties"]
    tensor["data"] = _DATA
    tensor["datatype"]["enum"] = list(DTYPES)
    return schemas


def json_schema(root: str) -> dict[str, Any]:
    """Return the JSON Schema document of one struct, including every schema that it refers to."""
    schemas = struct_schemas("#/$defs/{name}")
    return {"$schema": DIALECT, "title": root, "$ref": f"#/$defs/{root}", "$defs": _reachable(root, schemas)}


def _renamed(node: Any, names: dict[str, str], template: str) -> Any:
    if isinstance(node, dict):
        return {key: _renamed(value, names, template) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names, template) for value in node]
    for old, new in names.items():
        if node == template.format(name=old):
            return template.format(name=new)
    return node


def _reachable(root: str, schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schemas[name]
            text = str(schemas[name])
            waiting += [other for other in schemas if f"#/$defs/{other}'" in text]
    return dict(sorted(found.items()))


_NUMBER: Final = r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
_WHOLE: Final = r"^[0-9]+$"
_RETRY_AFTER: Final = "Of a refusal: milliseconds until a retry may succeed, if known."


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


NEEDS: Final = {
    h.DEADLINE_MS: _text(
        "Deadline of the answer, ms since the epoch: by the clock of `infaas-sent-ns` if that is given, else by the "
        "broker's.",
        pattern=_NUMBER,
    ),
    h.LATENCY_MS: _text(
        "Deadline of the answer, ms after the send time, or after the broker's append if that is unknown.",
        pattern=_NUMBER,
    ),
    h.MIN_ACCURACY: _text("Minimum accuracy, 0 to 1, as measured on the task's validation set.", pattern=_NUMBER),
    h.MAX_COST: _text(
        "Maximum cost, USD per 1000 such queries; of a generative task per 1000 tokens of its answers.", pattern=_NUMBER
    ),
    h.TTFT_MS: _text("Generative tasks: deadline of the first token, ms after the send time.", pattern=_NUMBER),
    h.TPOT_MS: _text("Generative tasks: maximum mean time in ms of each token after the first.", pattern=_NUMBER),
    h.MAX_TOKENS: _text("Generative tasks: maximum tokens of the answer.", pattern=_WHOLE),
    h.MODE: _text("Offline queries are computed when a worker is idle.", enum=[mode.value for mode in Mode]),
    h.TARGET: _text("Use only this architecture, version (`name@2`) or variant of the task."),
    h.TENANT: _text("Tenant of the query.", maxLength=MAX_NAME),
    h.ALLOW_LATE: _text("Answer late instead of refusing with `overloaded`.", enum=["true", "false"]),
    h.EXPLAIN: _text("Explain the choice of the variant in the result.", enum=["true", "false"]),
}
SLO: Final = {name: NEEDS[need] for name, need in h.SLO.items()}
TRACE: Final = {h.TRACEPARENT: _text("W3C trace context."), h.TRACESTATE: _text("W3C trace context.")}
CONTENT: Final = {
    h.CONTENT_TYPE: _text("Content type of the value."),
    h.JSON_LENGTH: _text(
        "Bytes of JSON before the binary tensors; absent if the value is JSON alone; 0 in a query whose value is the "
        "raw data of the one input.",
        pattern=_WHOLE,
    ),
}
QUERY: Final = (
    {
        h.ID: _text("Idempotency key: one visible result per id.", minLength=1, maxLength=MAX_ID),
        h.REPLY_TO: _text(f"Topic of the result; `{RESULTS}{{task}}` if absent."),
        h.REPLY_STREAM: _text(
            "Receiver of results over a connection: its IP address and port, and a secret that authenticates the "
            "sender, as `host:port secret`; with TLS followed by a blank and the SHA-256 of its certificate in "
            "base64url. If it cannot be reached, the result goes to the reply topic."
        ),
        h.BATCH: _text(
            f"Number of inputs in the query, 1 if absent, at most {MAX_BATCH}. A wrong number is refused.",
            pattern=_WHOLE,
        ),
        h.STREAM: _text(
            "Generative tasks: `true` to get the answer also in parts, as it is made.", enum=["true", "false"]
        ),
        h.SENT_NS: _text("Send time, ns since the epoch.", pattern=_WHOLE),
        h.LINGER_NS: _text(
            "Time in ns for which the sender held the query to batch requests, before the append; at most "
            f"{MOST_LINGER_MS:g} ms count. A latency includes this time.",
            pattern=_WHOLE,
        ),
        h.REJECTED_UPSTREAM: _text(
            "From a gateway: number of similar queries that it refused since its last one, because the system was "
            "overloaded. Ignored without a proof.",
            pattern=_WHOLE,
        ),
        h.REJECTED_UPSTREAM_PROOF: _text("From a gateway: proof of that number by the system's secret."),
        h.SIGNATURE: _text(
            "Proves the tenant by a key, see docs/security.md: `v1`, the key's name, ms since the epoch, and the "
            "HMAC-SHA-256, separated by blanks."
        ),
        h.CORRELATION: _text(
            "Returned unchanged with the result, to match it to the query: several queries may have one id, and others "
            "may know the id. A random value cannot be guessed."
        ),
    }
    | NEEDS
    | CONTENT
    | TRACE
)
TENANT_QUERY: Final = {
    h.TASK: _text("The requested task."),
    **{name: found for name, found in QUERY.items() if name not in (h.TENANT, h.REPLY_STREAM, h.SIGNATURE)},
    h.REPLY_TO: _text(
        f"Topic of the result, one of the tenant's own, `{TENANTS}{{tenant}}.` and more; the tenant's results topic if "
        "absent."
    ),
}
FORWARDED: Final = QUERY | {
    h.TASK: _text("The requested task."),
    h.CHOICE: _text(
        "The chosen variant, its accuracy, the price in USD per 1000 such queries or tokens of a generative answer, "
        "the ns from the client's send to the selector's choice, and the predicted ns from the choice to the result, "
        "separated by blanks."
    ),
    h.EXPLANATION: _text("Explanation of the choice, in JSON."),
    h.COPIED: _text("A shadow version computes a copy, and the two results are compared.", enum=["true"]),
    h.ATTEMPTS: _text("Number of earlier attempts.", pattern=_WHOLE),
}
_CHOSEN: Final = {
    h.VARIANT: _text("The chosen variant."),
    h.TASK_QUEUE_NS: _text("Time from the client's send to the selector's choice.", pattern=_WHOLE),
    h.PREDICTED_NS: _text("Predicted time from the choice to the result.", pattern=_WHOLE),
    h.ACCURACY: _text("Accuracy of the chosen variant.", pattern=_NUMBER),
    h.COST: _text("USD per 1000 such queries, or per 1000 tokens of a generative answer.", pattern=_NUMBER),
    h.EXPLANATION: FORWARDED[h.EXPLANATION],
}
RESULT: Final = (
    {
        h.ID: _text("Id of the query."),
        h.CORRELATION: _text("Correlation of the query, if it had one."),
        h.STATUS: _text("`ok`, or the code of an error.", enum=[OK, *(code.value for code in QUERY_ERRORS)]),
        h.WORKER: _text("Worker that computed it."),
        h.VARIANT_QUEUE_NS: _text("Time from the choice to the start of the computation.", pattern=_WHOLE),
        h.COMPUTE_NS: _text("Computing time of the query's batch.", pattern=_WHOLE),
        h.LATE: _text("The answer was ready after its deadline.", enum=["true"]),
        h.REASON: _text("Reason of a refusal.", enum=[reason.value for reason in RefusalReason]),
        h.RETRY_AFTER_MS: _text(_RETRY_AFTER, pattern=_WHOLE),
    }
    | _CHOSEN
    | CONTENT
    | TRACE
)
PART: Final = {
    h.ID: RESULT[h.ID],
    h.CORRELATION: RESULT[h.CORRELATION],
    h.PART: _text("Random name of the attempt, and number of the part within it from 0, separated by a blank."),
}


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


_JSON: Final = "application/json"
_CONTENT: Final = {_JSON: {"schema": ref("ErrorBody")}}
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


def error_responses() -> dict[str, Any]:
    """Return the error responses that the references point to."""
    statuses = sorted({kind.http_status for kind in QUERY_ERRORS.values()} | set(_OF_HTTP))
    return {f"E{status}": _error(status) for status in statuses}


def _error(status: int) -> dict[str, Any]:
    kinds = [kind for kind in QUERY_ERRORS.values() if kind.http_status == status]
    text = _OF_HTTP.get(status) or "; ".join(f"`{kind.code.value}`: {kind.default_message}" for kind in kinds)
    headers: dict[str, Any] = {h.STATUS: {"schema": {"type": "string", "enum": [code.value for code in ErrorCode]}}}
    if any(reason.code is kind.code for kind in kinds for reason in RefusalReason):
        headers[h.REASON] = {"schema": RESULT[h.REASON]}
    if status == 415:
        headers["Accept-Encoding"] = {"schema": {"type": "string"}}
    if status in (429, 503):
        headers["Retry-After"] = {"schema": {"type": "string"}, "description": "Seconds."}
        headers[h.RETRY_AFTER_MS] = {"schema": RESULT[h.RETRY_AFTER_MS]}
    return {"description": text, "headers": headers, "content": _CONTENT}
