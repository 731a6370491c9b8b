"""HTML page of the OpenAPI document: one file without scripts and without external resources."""

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
summary { cursor: pointer; padding: .3rem 0; } details details { margin-left: 1.5rem; }
code, pre { font: .9em/1.4 ui-monospace, monospace; background: #f3f3f3; padding: .1em .3em; border-radius: 3px; }
pre { padding: .7em; overflow: auto; } table { border-collapse: collapse; margin: .5rem 0; }
td, th { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; }
.method { display: inline-block; min-width: 4.5em; font-weight: bold; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } code, pre { background: #282828; }
a { color: #8ab4f8; } td, th { border-color: #444; } }
"""


def page(document: Mapping[str, Any]) -> str:
    """Return a document as an HTML page."""
    info = document["info"]
    title = _text(f"{info['title']} {info['version']}")
    paths, schemas = document["paths"], document["components"]["schemas"]
    operations = "".join(
        _operation(method, path, operation, document)
        for path, methods in sorted(paths.items())
        for method, operation in methods.items()
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{_marked(info['description'])}</p>"
        f'<p>For machines: <a href="openapi.json">openapi.json</a> (OpenAPI {_text(document["openapi"])}).</p>'
        f"<h2>Routes</h2>{operations}<h2>Errors</h2>{_errors(document['x-infaas-errors'])}"
        f"<h2>Schemas</h2>{''.join(_schema(name, schema) for name, schema in sorted(schemas.items()))}</body></html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    parts = [f"<p>{_marked(operation.get('description', ''))}</p>" if "description" in operation else ""]
    parameters = operation.get("parameters", [])
    if parameters:
        rows = [(_code(one["name"]), _text(one["in"]), _kind(one["schema"])) for one in parameters]
        parts.append(_table(("parameter", "in", "value"), rows))
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        parts.append(_table(("body", ""), [(_code(kind), _kind(media["schema"])) for kind, media in content.items()]))
    responses = [(_text(status), *_response(one, document)) for status, one in operation["responses"].items()]
    parts.append(_table(("status", "", "body"), responses))
    name = f'<span class="method">{_text(method.upper())}</span> {_code(path)}'
    return f"<details><summary>{name} {_marked(operation['summary'])}</summary>{''.join(parts)}</details>"


def _response(response: Mapping[str, Any], document: Mapping[str, Any]) -> tuple[str, str]:
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    bodies = [f"{_code(kind)} {_kind(media['schema'])}" for kind, media in response.get("content", {}).items()]
    return _marked(response["description"]), "<br>".join(bodies)


def _errors(table: list[dict[str, Any]]) -> str:
    rows = [
        (
            _code(error["code"]),
            str(error["http_status"]),
            "yes" if error["retryable"] else "no",
            _text(error["message"]),
        )
        for error in table
    ]
    return _table(("infaas-status", "HTTP", "try again", ""), rows)


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    text = _text(json.dumps(schema, indent=2))
    return f'<details id="{_text(name)}"><summary>{_code(name)}</summary><pre>{text}</pre></details>'


def _kind(schema: Mapping[str, Any]) -> str:
    """Describe a schema's values in a few words of HTML."""
    if "$ref" in schema:
        name = _text(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if schema.get("type") == "array" and "items" in schema:
        return f"list of {_kind(schema['items'])}"
    return "; ".join(_words(schema))


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    kind = schema.get("type", "anything")
    yield _text(", ".join(kind) if isinstance(kind, list) else kind)
    if "enum" in schema:
        yield "one of " + ", ".join(_code(str(value)) for value in schema["enum"])
    if "description" in schema:
        yield _marked(schema["description"])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    titles = "".join(f"<th>{title}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{lines}</table>"


def _marked(text: str) -> str:
    """Return the text as HTML, with the parts in backticks as code."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _text(text: str) -> str:
    return html.escape(text)
