"""Operations of the admin API in the OpenAPI document, generated from the endpoint table."""

from functools import cache
from typing import Any, Final

import msgspec

from admin.api import Route
from admin.endpoints import ENDPOINTS
from admin.uploads import SEND
from admin.uploads import show as SHOW
from schemas.documents.components import BODY, REF, errors, refusal

_JSON: Final = "application/json"
_NULL: Final = {"type": "null"}


def paths() -> dict[str, Any]:
    """Return the operations by path and method."""
    found: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        found.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    found[SEND.path][SEND.method.lower()] = _sending()
    return found


def schemas() -> dict[str, Any]:
    """Return the schemas of the operations' results and of the structs in their requests.

    The request structs themselves are left out, because each operation lists their fields.
    """
    _, answers = msgspec.json.schema_components([one.result for one in ENDPOINTS], ref_template=REF)
    said_otherwise = {one.request.__name__ for one in ENDPOINTS} - answers.keys()
    return {name: schema for name, schema in _schemas().items() if name not in said_otherwise}


def table() -> str:
    """Return the endpoints with their required roles as a Markdown table for the documentation."""
    before = ENDPOINTS.index(SHOW)
    all_of_them = (*ENDPOINTS[:before], SEND, *ENDPOINTS[before:])
    rows = [f"| `{one.name}` | `{one.method} {one.path}` | `{one.role}` | {one.summary} |" for one in all_of_them]
    return "\n".join(["| endpoint | request | role | |", "|---|---|---|---|", *rows])


def _operation(route: Route[Any, Any]) -> dict[str, Any]:
    noun, _, verb = route.name.partition(".")
    properties, required = _fields(route.request)
    answer = {"description": "OK", "content": {_JSON: {"schema": _schema(route.result)}}}
    described: dict[str, Any] = {
        "operationId": f"{noun}{verb.title()}".replace("-", ""),
        "summary": route.summary,
        "description": f"Requires the role `{route.role}`.",
        "parameters": [_parameter("path", name, properties.pop(name), needed=True) for name in route.in_path],
        "responses": errors(401, 403, 504) | {str(route.status): answer},
    }
    described["responses"]["404"] = refusal("The object does not exist, or the caller may not see it.")
    described["responses"]["409"] = refusal("The present state does not allow it; the message names the remedy.")
    if route.has_body:
        described["responses"] |= errors(*BODY)
        described["requestBody"] = _body(properties, [name for name in required if name in properties])
    else:
        described["parameters"] += [
            _parameter("query", name, schema, needed=name in required) for name, schema in properties.items()
        ]
    return described


def _sending() -> dict[str, Any]:
    """Return the operation whose body is a file."""
    described = _operation(SEND)
    for status in ("404", "409", "504"):
        del described["responses"][status]
    described["responses"] |= errors(408, 411, 413, 415, 429, 503)
    described["responses"]["201"] = described["responses"]["200"] | {"description": "The file was stored."}
    described["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    return described


def _body(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {"required": bool(required), "content": {_JSON: {"schema": schema}}}


def _parameter(place: str, name: str, schema: dict[str, Any], *, needed: bool) -> dict[str, Any]:
    said = {key: value for key, value in schema.items() if key != "default" or value is not None}
    if "anyOf" in said:  # a query string leaves None out
        kinds = [kind for kind in said.pop("anyOf") if kind != _NULL]
        said |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {"name": name, "in": place, "required": needed, "schema": said}


def _fields(request: type) -> tuple[dict[str, Any], list[str]]:
    schema = _schemas()[request.__name__]
    return dict(schema["properties"]), schema.get("required", [])


@cache
def _schemas() -> dict[str, Any]:
    kinds = [kind for one in (*ENDPOINTS, SEND) for kind in (one.request, one.result)]
    return msgspec.json.schema_components(kinds, ref_template=REF)[1]


def _schema(kind: Any) -> dict[str, Any]:
    [schema], _ = msgspec.json.schema_components([kind], ref_template=REF)
    return schema
