"""Page of the gateway's routes, made from its OpenAPI document."""

from collections.abc import Iterator
from typing import Any, Final

from reference.markdown import code, table
from reference.pointer import resolved
from schemas.documents import openapi

_INTRO: Final = """# HTTP

The routes of a gateway, made from its OpenAPI document (`/openapi.json`), which has the schemas of all bodies. How to
send queries: [clients](../clients.md); administration: [admin](../admin.md).

"""
_METHODS: Final = ("get", "post", "put", "patch", "delete")


def page() -> str:
    """Return the page."""
    document: Any = openapi.document()
    return _INTRO + "\n".join(
        section for path, item in document["paths"].items() for section in _sections(document, path, item)
    )


def _sections(document: Any, path: str, item: Any) -> Iterator[str]:
    for method in _METHODS:
        if method in item:
            yield _section(document, f"{method.upper()} {path}", item, item[method])


def _section(document: Any, title: str, item: Any, operation: Any) -> str:
    parameters = [resolved(document, one) for one in [*item.get("parameters", ()), *operation.get("parameters", ())]]
    rows = [
        (code(one["name"]), one["in"], _type(one.get("schema", {})), one.get("description", "")) for one in parameters
    ]
    body = resolved(document, operation.get("requestBody", {}))
    answers = {status: resolved(document, one) for status, one in operation.get("responses", {}).items()}
    parts = [f"## `{title}`", operation.get("summary", ""), operation.get("description", "")]
    parts.append(table(("parameter", "in", "type", "meaning"), rows))
    if body:
        parts.append(f"Body: {_content(body)}.")
    parts.append(table(("status", "body", "meaning"), _answers(answers)))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _answers(answers: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for status, one in sorted(answers.items()):
        yield str(status), _content(one), one.get("description", "")


def _content(one: Any) -> str:
    return "; ".join(
        f"{code(kind)} {_type(media.get('schema', {}))}".strip() for kind, media in one.get("content", {}).items()
    )


def _type(schema: Any) -> str:
    if "$ref" in schema:
        return code(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    kinds = schema.get("type", "")
    if kinds == "array":
        return f"list of {_type(schema.get('items', {})) or 'any'}"
    return ", ".join(kinds) if isinstance(kinds, list) else str(kinds)
