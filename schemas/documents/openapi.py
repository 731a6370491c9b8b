"""OpenAPI 3.1 document of the gateway: the Open Inference Protocol v2 with the supported Triton extensions."""

from typing import Any, Final

from schemas import headers as h
from schemas.documents import admin, components, generation, jobs, openai
from schemas.documents.components import ref
from schemas.query import MAX_BATCH, Mode
from schemas.tensors import DTYPES

VERSION: Final = "3.1.0"
_NO_CONFIG: Final = "Empty: `infaas register` configures models."
_JSON: Final = "application/json"
_BINARY: Final = "application/octet-stream"
_ANY: Final = {"type": "object"}
_OPEN: Final = ("/v2/health/live", "/v2/health/ready", "/openapi.json", "/docs", "/docs/api")
"""Paths without authentication."""
_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": (
        "An API key of `infaas keys create`, or a token of the OpenID Connect issuer; required if the gateway "
        "authenticates clients (`--auth`)."
    ),
}
_CERTIFICATE: Final = {
    "type": "mutualTLS",
    "description": (
        "A client certificate that is bound to a principal (`infaas keys create --certificate`), instead of a key."
    ),
}
_ASKING: Final = (
    "Query a model; needs are in `parameters`, in headers or in the query string. The body may be a plain text or "
    "image if that is the model's only input. Bodies may be compressed by gzip or deflate; so are long responses, if "
    "the client accepts that."
)

_LOGGING: Final = "/v2/logging"
_TRACES: Final = ("/v2/trace/setting", "/v2/models/{name}/trace/setting")
_MEMORIES: Final = {"systemsharedmemory": "SystemSharedMemory", "cudasharedmemory": "CudaSharedMemory"}
_RECORDS_ONLY: Final = (h.CONTENT_TYPE, h.CORRELATION, h.REASON, h.RETRY_AFTER_MS, h.TRACESTATE)
"""Headers of a result record that an HTTP answer leaves out or expresses in another way."""


def document() -> dict[str, Any]:
    """Return the complete OpenAPI document."""
    paths: dict[str, Any] = {}
    paths |= _get("/v2", "serverMetadata", "Name, version and extensions of the server.", "ServerMetadata")
    paths |= _get("/v2/health/live", "serverLive", "Liveness of the process.", "Live")
    paths |= _get("/v2/health/ready", "serverReady", "Readiness for queries.", "Ready", also=503)
    for suffix, path in (("", "/v2/models/{name}"), ("Version", "/v2/models/{name}/versions/{version}")):
        paths |= _get(path, f"modelMetadata{suffix}", "The signature of a model.", "ModelMetadata")
        paths |= _get(
            f"{path}/ready", f"modelReady{suffix}", "Readiness of a model for queries.", "ModelReady", also=503
        )
        paths |= _get(f"{path}/config", f"modelConfig{suffix}", "Signature in Triton's format.", "ModelConfig")
        paths |= _get(f"{path}/stats", f"modelStatistics{suffix}", "Inference statistics of a model.", "Statistics")
        paths |= {f"{path}/infer": {"post": _infer(f"infer{suffix}", path)}}
    paths |= _get("/v2/models/stats", "allStatistics", "Inference statistics of all models.", "Statistics")
    paths |= _repository()
    paths |= generation.paths()
    paths |= jobs.paths()
    paths |= _unsupported()
    paths |= openai.paths()
    paths |= admin.paths()
    paths |= _get("/metrics", "metrics", "Prometheus metrics.", kind="text/plain")
    paths |= _get("/openapi.json", "document", "This document.", "Document")
    paths |= _get("/docs", "docs", "The manual, if it is installed, else the next page.", kind="text/html")
    paths |= _get("/docs/api", "docsApi", "This document as an HTML page.", kind="text/html")
    return {
        "openapi": VERSION,
        "info": {
            "title": "INFaaS gateway",
            "version": "1.0.0",
            "description": (
                "Tasks, architectures and variants are models of one namespace; for a query of a task, the system "
                "chooses the variant."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {"certificate": []}, {}],
        "paths": {path: _guarded(path, methods) for path, methods in paths.items()},
        "components": {
            "securitySchemes": {"key": _KEY, "certificate": _CERTIFICATE},
            "schemas": admin.schemas()
            | components.struct_schemas(components.REF)
            | _schemas()
            | generation.schemas()
            | jobs.schemas()
            | openai.schemas(),
            "responses": components.error_responses(),
        },
        "x-infaas-errors": components.error_table(),
    }


def _guarded(path: str, methods: dict[str, Any]) -> dict[str, Any]:
    """Return a path's operations with the errors of authentication added, or marked as open to everybody."""
    if path in _OPEN:
        return {method: operation | {"security": []} for method, operation in methods.items()}
    refused = components.errors(401, 403)
    return {
        method: operation | {"responses": refused | operation["responses"]} for method, operation in methods.items()
    }


def _get(
    path: str, operation: str, summary: str, schema: str = "", *, also: int | None = None, kind: str = _JSON
) -> dict[str, Any]:
    content = {kind: {"schema": ref(schema) if schema else {"type": "string"}}}
    answers: dict[str, Any] = {"200": {"description": "OK", "content": content}}
    if also is not None:
        refused = {_JSON: {"schema": {"anyOf": [ref(schema), ref("ErrorBody")]}}}
        answers[str(also)] = {"description": "Not ready, or too many connections", "content": refused}
    return {path: {"get": _operation(operation, summary, path, answers)}}


def _operation(operation: str, summary: str, path: str, answers: dict[str, Any], *errors: int) -> dict[str, Any]:
    names = [name for name in ("name", "version") if f"{{{name}}}" in path]
    known = components.errors(*errors, *([404] if names else []))
    described: dict[str, Any] = {"operationId": operation, "summary": summary, "responses": known | answers}
    if names:
        described["parameters"] = [_path_parameter(name) for name in names]
    return described


def _infer(operation: str, path: str) -> dict[str, Any]:
    raw = {"schema": {"type": "string", "format": "binary"}}
    content = {_JSON: {"schema": ref("InferRequest")}, _BINARY: raw, "text/plain": raw, "image/*": raw}
    answer = {_JSON: {"schema": ref("InferResponse")}, _BINARY: {"schema": {"type": "string", "format": "binary"}}}
    headers = {name: {"schema": schema} for name, schema in components.RESULT.items() if name not in _RECORDS_ONLY}
    answers: dict[str, Any] = {"200": {"description": "The answer", "content": answer, "headers": headers}}
    described = _operation(operation, _ASKING, path, answers, *components.BODY, 403, 422, 429, 500, 504)
    of_query = {name: components.QUERY[name] for name in (h.ID, h.SENT_NS, h.JSON_LENGTH)}
    passed = of_query | components.NEEDS | components.TRACE
    described["parameters"] += [{"name": name, "in": "header", "schema": schema} for name, schema in passed.items()]
    described["parameters"] += [
        {"name": name, "in": "query", "schema": components.NEEDS[header]} for name, header in h.NEEDS.items()
    ]
    described["requestBody"] = {"required": True, "content": content}
    return described


def _repository() -> dict[str, Any]:
    path = "/v2/repository/index"
    index = _operation(
        "repositoryIndex",
        "List all models, or only ready ones.",
        path,
        {"200": _ok("RepositoryIndex")},
        *components.BODY,
    )
    index["requestBody"] = {"content": _json("RepositoryIndexRequest")}
    load, unload = "/v2/repository/models/{name}/load", "/v2/repository/models/{name}/unload"
    done = {"200": _ok("Empty")}
    loading = _operation("loadModel", "No effect: models are loaded on demand.", load, done, *components.BODY)
    loading["requestBody"] = {"content": _json("RepositoryLoadRequest")}
    unloading = _operation("unloadModel", "Refused: the autoscaler unloads unused models.", unload, {})
    return {path: {"post": index}, load: {"post": loading}, unload: {"post": unloading}}


def _unsupported() -> dict[str, Any]:
    """Return the operations of unsupported Triton routes: they return an error or an empty result."""
    found: dict[str, Any] = {_LOGGING: _refused("LogSettings", "Not supported: settings of logs.")}
    for path, suffix in zip(_TRACES, ("", "OfModel"), strict=True):
        found[path] = _refused(
            f"TraceSettings{suffix}", "Not supported: settings of traces; `traceparent` is passed on."
        )
        if suffix:
            for operation in found[path].values():
                operation["parameters"] = [_path_parameter("name")]
                operation["responses"] |= components.errors(404)
    for memory, words in _MEMORIES.items():
        found |= _memory(f"/v2/{memory}", words)
    return found


def _refused(operation: str, summary: str) -> dict[str, Any]:
    return {
        "get": {"operationId": f"get{operation}", "summary": summary, "responses": components.errors()},
        "post": {"operationId": f"set{operation}", "summary": summary, "responses": components.errors()},
    }


def _memory(path: str, words: str) -> dict[str, Any]:
    region = f"{path}/region/{{region}}"
    none = {"type": "array", "maxItems": 0}
    listed = {"200": {"description": "There are none.", "content": {_JSON: {"schema": none}}}}
    unknown = {"404": components.refusal("There is none.")}
    forgotten = {"200": {"description": "It is not registered.", "content": {_JSON: {"schema": ref("Empty")}}}}
    return {
        f"{path}/status": {"get": _region_operation(f"list{words}", "Regions of shared memory: none.", listed)},
        f"{path}/unregister": {"post": _region_operation(f"unregisterAll{words}", "No effect.", forgotten)},
        f"{region}/status": {
            "get": _region_operation(f"get{words}", "A region of shared memory.", unknown, region=True)
        },
        f"{region}/register": {
            "post": _region_operation(
                f"register{words}", "Not supported: a query may be computed on another machine.", {}, region=True
            )
        },
        f"{region}/unregister": {"post": _region_operation(f"unregister{words}", "No effect.", forgotten, region=True)},
    }


def _region_operation(operation: str, summary: str, answers: dict[str, Any], *, region: bool = False) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation,
        "summary": summary,
        "responses": answers | components.errors(),
    }
    if region:
        described["parameters"] = [_path_parameter("region")]
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _schemas() -> dict[str, Any]:
    text, whole, flag = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
    tensor = _object(name=text, datatype={"type": "string", "enum": list(DTYPES)}, shape=_list(whole))
    configured = _object(name=text, data_type=text, dims=_list(whole))
    pair = _object(count=whole, ns=whole)
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    statistics = _object(
        name=text,
        version=text,
        last_inference=whole,
        inference_count=whole,
        execution_count=whole,
        inference_stats=_object(**dict.fromkeys(parts, pair)),
        batch_stats=_list(_ANY),
    )
    states = {"type": "string", "enum": ["UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"]}
    return {
        "ServerMetadata": _object(name=text, version=text, extensions=_list(text)),
        "Live": _object(live=flag),
        "Ready": _object(ready=flag, reason=text),
        "ModelReady": _object(name=text, ready=flag),
        "ModelMetadata": _object(
            name=text,
            versions=_list(text),
            platform=text,
            inputs=_list(tensor),
            outputs=_list(tensor),
            parameters={
                "type": "object",
                "properties": {
                    "measure": text | {"description": "Measure of the accuracy of this task, 0..1, e.g. accuracy, f1."},
                    "classes": _list(text) | {"description": "Names of the classes, in the order of the scores."},
                },
                "required": ["measure"],
            },
        ),
        "ModelConfig": _object(
            name=text,
            platform=text,
            backend=text,
            max_batch_size=whole
            | {
                "description": (
                    f"Inputs in one batch; larger requests, of up to {MAX_BATCH} inputs, are computed in parts."
                )
            },
            input=_list(configured),
            output=_list(configured),
        ),
        "Statistics": _object(model_stats=_list(statistics)),
        "RepositoryIndexRequest": {"type": "object", "properties": {"ready": flag}},
        "RepositoryIndex": _list(_object(name=text, version=text, state=states, reason=text)),
        "RepositoryLoadRequest": {
            "type": "object",
            "properties": {"parameters": {"type": "object", "maxProperties": 0, "description": _NO_CONFIG}},
        },
        "Empty": {"type": "object", "maxProperties": 0},
        "Document": {"type": "object", "required": ["openapi", "paths"]},
        "NeedsParameters": _needs(),
    }


def _needs() -> dict[str, Any]:
    number, text, flag = {"type": "number", "minimum": 0}, {"type": "string"}, {"type": "boolean"}
    return {
        "type": "object",
        "description": "Additional request parameters.",
        "properties": {
            "latency_ms": number,
            "min_accuracy": number | {"maximum": 1},
            "max_cost": number,
            "ttft_ms": number,
            "tpot_ms": number,
            "max_tokens": {"type": "integer", "minimum": 1},
            "mode": {"type": "string", "enum": [mode.value for mode in Mode]},
            "target": text,
            "tenant": text,
            "allow_late": flag,
            "explain": flag,
        },
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _ok(schema: str) -> dict[str, Any]:
    return {"description": "OK", "content": _json(schema)}


def _json(schema: str) -> dict[str, Any]:
    return {_JSON: {"schema": ref(schema)}}
