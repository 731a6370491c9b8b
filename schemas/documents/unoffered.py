"""OpenAPI operations of Triton routes that this system does not support: they return an error or an empty result."""

from typing import Any, Final

from schemas.documents.responses import errors, refusal

_JSON: Final = "application/json"
_TEXT: Final = {"type": "string"}
_LOGGING: Final = "/v2/logging"
_TRACES: Final = ("/v2/trace/setting", "/v2/models/{name}/trace/setting")
_MEMORIES: Final = {"systemsharedmemory": "SystemSharedMemory", "cudasharedmemory": "CudaSharedMemory"}


def paths() -> dict[str, Any]:
    """Return the operations by path and method."""
    found: dict[str, Any] = {_LOGGING: _refused("LogSettings", "Not supported: settings of logs.")}
    for path, suffix in zip(_TRACES, ("", "OfModel"), strict=True):
        found[path] = _refused(
            f"TraceSettings{suffix}", "Not supported: settings of traces; `traceparent` is passed on."
        )
        if suffix:
            for operation in found[path].values():
                operation["parameters"] = [_parameter("name")]
                operation["responses"] |= errors(404)
    for memory, words in _MEMORIES.items():
        found |= _memory(f"/v2/{memory}", words)
    return found


def _refused(operation: str, summary: str) -> dict[str, Any]:
    return {
        "get": {"operationId": f"get{operation}", "summary": summary, "responses": errors()},
        "post": {"operationId": f"set{operation}", "summary": summary, "responses": errors()},
    }


def _memory(path: str, words: str) -> dict[str, Any]:
    region = f"{path}/region/{{region}}"
    none = {"type": "array", "maxItems": 0}
    listed = {"200": {"description": "There are none.", "content": {_JSON: {"schema": none}}}}
    unknown = {"404": refusal("There is none.")}
    forgotten = {"200": {"description": "It is not registered.", "content": {_JSON: {"schema": _empty()}}}}
    return {
        f"{path}/status": {"get": _operation(f"list{words}", "Regions of shared memory: none.", listed)},
        f"{path}/unregister": {"post": _operation(f"unregisterAll{words}", "No effect.", forgotten)},
        f"{region}/status": {"get": _operation(f"get{words}", "A region of shared memory.", unknown, region=True)},
        f"{region}/register": {
            "post": _operation(
                f"register{words}", "Not supported: a query may be computed on another machine.", {}, region=True
            )
        },
        f"{region}/unregister": {"post": _operation(f"unregister{words}", "No effect.", forgotten, region=True)},
    }


def _operation(operation: str, summary: str, responses: dict[str, Any], *, region: bool = False) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation, "summary": summary, "responses": responses | errors()}
    if region:
        described["parameters"] = [_parameter("region")]
    return described


def _parameter(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _empty() -> dict[str, Any]:
    return {"$ref": "#/components/schemas/Empty"}
