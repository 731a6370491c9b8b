"""Routes of the generate extension in the OpenAPI document."""

from typing import Any, Final

from schemas import headers as h
from schemas.documents import components
from schemas.documents.components import ref

_JSON: Final = "application/json"
_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer"}
_MODEL: Final = (
    ("", "/v2/models/{name}", ("name",)),
    ("Version", "/v2/models/{name}/versions/{version}", ("name", "version")),
)


def paths() -> dict[str, Any]:
    """Return the operations by path and method."""
    events = {"text/event-stream": {"schema": ref("GenerateEvent")}}
    found: dict[str, Any] = {}
    for suffix, path, names in _MODEL:
        whole = "Make a text by a generative task."
        parts = "The same as server-sent events, as it is made; the last event has the values beside the text."
        found[f"{path}/generate"] = {
            "post": _operation(f"generate{suffix}", whole, {_JSON: {"schema": ref("GenerateResponse")}}, names)
        }
        found[f"{path}/generate_stream"] = {"post": _operation(f"generateStream{suffix}", parts, events, names)}
    return found


def schemas() -> dict[str, Any]:
    """Return the schemas that only these routes use."""
    end = {
        "id": _TEXT,
        "model_name": _TEXT,
        "model_version": _TEXT,
        "text_output": _TEXT,
        "finish_reason": {"type": "string", "enum": ["stop", "length"]},
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "mean_logprob": {"type": "number"},
        "logprobs": {"type": "array", "items": ref("TokenLogprob")},
        "parameters": {"type": "object", "description": "The headers of the result.", "additionalProperties": _TEXT},
    }
    restarted = {"type": "boolean", "description": f"The text so far is void; only with the header `{h.STREAM}`."}
    return {
        "GenerateRequest": {
            "type": "object",
            "description": "A prompt, or with the parameter `chat` a JSON list of messages. Options and needs are "
            "parameters, or beside the text.",
            "properties": {"id": _TEXT, "text_input": _TEXT, "parameters": {"type": "object"}},
            "required": ["text_input"],
        },
        "GenerateResponse": {"type": "object", "properties": end, "required": ["text_output", "finish_reason"]},
        "GenerateEvent": {
            "type": "object",
            "properties": end | {"tokens": _COUNT, "restarted": restarted, "error": _TEXT, "reason": _TEXT},
        },
    }


def _operation(operation: str, summary: str, content: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    passed = {name: components.QUERY[name] for name in (h.ID, h.STREAM)} | components.NEEDS
    passed |= components.SLO | components.TRACE
    parameters = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
    parameters += [{"name": name, "in": "header", "schema": schema} for name, schema in passed.items()]
    parameters += [
        {"name": name, "in": "query", "schema": components.NEEDS[header]} for name, header in h.NEEDS.items()
    ]
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": parameters,
        "requestBody": {"required": True, "content": {_JSON: {"schema": ref("GenerateRequest")}}},
        "responses": {"200": {"description": "The answer", "content": content}}
        | components.errors(401, 403, 404, 422, 429, 500, 504, *components.BODY),
    }
