"""Routes of jobs in the OpenAPI document."""

from typing import Any, Final

from schemas import headers as h
from schemas.documents import components
from schemas.documents.components import ref
from schemas.jobs import KEY, MAX_KEY, MAX_LISTED, WEBHOOK, JobState

_JSON: Final = "application/json"
_JOBS: Final = "/v2/models/{name}/jobs"
_OF_VERSION: Final = "/v2/models/{name}/versions/{version}/jobs"
_JOB: Final = f"{_JOBS}/{{id}}"
_SUBMIT: Final = (
    "Submit one job, or many as JSON lines or a list of requests. The answer comes before anything is computed. Unless "
    "its needs name a `mode`, a job is offline. A latency counts from this request; a job without one has no deadline."
)
_TEXT: Final = {"type": "string"}


def paths() -> dict[str, Any]:
    """Return the operations by path and method."""
    return {
        _JOBS: {"post": _submit("submitJobs", "name"), "get": _list()},
        _OF_VERSION: {"post": _submit("submitJobsVersion", "name", "version")},
        _JOB: {
            "get": _operation("jobStatus", "Status of a job.", {"200": _answer("Job")}, "name", "id"),
            "delete": _operation(
                "cancelJob",
                "Cancel a job that has not ended; a result that arrives later is dropped.",
                {"200": _answer("Job"), "409": components.refusal("The job has ended.")},
                "name",
                "id",
            ),
        },
        f"{_JOB}/result": {"get": _result()},
    }


def schemas() -> dict[str, Any]:
    """Return the schemas that only the job routes use."""
    ids = {"type": "array", "items": _TEXT}
    following = {"type": ["string", "null"], "description": "`before` of the next page; null after the last one."}
    return {
        "AcceptedJob": {"type": "object", "properties": {"id": _TEXT}, "required": ["id"]},
        "AcceptedJobs": {"type": "object", "properties": {"batch": _TEXT, "ids": ids}, "required": ["batch", "ids"]},
        "JobPage": {
            "type": "object",
            "properties": {"jobs": {"type": "array", "items": ref("Job")}, "next": following},
            "required": ["jobs", "next"],
        },
    }


def _submit(operation: str, *names: str) -> dict[str, Any]:
    accepted = {_JSON: {"schema": {"anyOf": [ref("AcceptedJob"), ref("AcceptedJobs")]}}}
    located = {"Location": {"schema": _TEXT, "description": "Path of the job, or of the list of these jobs."}}
    many = {"type": "array", "items": ref("InferRequest")}
    raw = {"schema": {"type": "string", "format": "binary"}}
    stored = {"description": "Stored", "headers": located, "content": accepted}
    described = _operation(operation, _SUBMIT, {"202": stored}, *names)
    described["responses"] |= components.errors(*components.BODY, 403, 422, 429)
    passed = (
        {name: components.QUERY[name] for name in (h.REPLY_TO, h.SENT_NS, h.JSON_LENGTH)}
        | components.NEEDS
        | components.TRACE
    )
    key = {"type": "string", "maxLength": MAX_KEY, "description": "A repeated request creates no second job."}
    webhook = _TEXT | {"description": "URL that receives a signed CloudEvent when the job has ended."}
    described["parameters"] += [_parameter("header", name, schema) for name, schema in ({KEY: key} | passed).items()]
    of_query = {name: components.NEEDS[header] for name, header in h.NEEDS.items()} | {WEBHOOK: webhook}
    described["parameters"] += [_parameter("query", name, schema) for name, schema in of_query.items()]
    described["requestBody"] = {
        "required": True,
        "content": {
            _JSON: {"schema": {"anyOf": [ref("InferRequest"), many]}},
            "application/x-ndjson": raw,
            "application/octet-stream": raw,
            "text/plain": raw,
            "image/*": raw,
        },
    }
    return described


def _list() -> dict[str, Any]:
    described = _operation(
        "listJobs", "List the jobs of a model, the latest first.", {"200": _answer("JobPage")}, "name"
    )
    del described["responses"]["404"]
    asked = {
        "state": _TEXT | {"enum": [state.value for state in JobState]},
        "batch": _TEXT | {"description": "Jobs of one request."},
        "before": _TEXT | {"description": "Jobs created before this one."},
        "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LISTED},
    }
    described["parameters"] += [_parameter("query", name, schema) for name, schema in asked.items()]
    return described


def _result() -> dict[str, Any]:
    answer = {_JSON: {"schema": ref("InferResponse")}, "application/octet-stream": {"schema": _TEXT}}
    responses: dict[str, Any] = {
        "200": {"description": "The answer of `/infer`.", "content": answer},
        "409": components.refusal("The job has not ended."),
        "410": components.refusal("The job was cancelled, or its result has expired."),
    } | components.errors(403, 422, 429, 500, 504)
    return _operation("jobResult", "Return the result of a job, or its error.", responses, "name", "id")


def _operation(operation: str, summary: str, responses: dict[str, Any], *names: str) -> dict[str, Any]:
    of_one = "id" in names
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [_parameter("path", name, _TEXT) | {"required": True} for name in names],
        "responses": components.errors(404)
        | responses
        | ({"404": components.refusal("The job does not exist.")} if of_one else {}),
    }


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema}


def _answer(schema: str) -> dict[str, Any]:
    return {"description": "OK", "content": {_JSON: {"schema": ref(schema)}}}
