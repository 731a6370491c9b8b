"""Page of the topics and headers of Kafka, made from the AsyncAPI document."""

from collections.abc import Iterator
from typing import Any, Final

from reference.markdown import code, table
from reference.pointer import resolved
from schemas.documents import asyncapi

_INTRO: Final = """# Kafka

The topics, and the headers and values of their records, made from the AsyncAPI document
(`schemas/documents/asyncapi.json`). How to send and receive them: [clients](../clients.md).

"""


def page() -> str:
    """Return the page."""
    document: Any = asyncapi.document()
    channels = [
        (code(one.get("address")), ", ".join(_names(one)), one.get("description", ""))
        for one in document["channels"].values()
    ]
    messages = document["components"]["messages"]
    sections = [_message(document, name, one) for name, one in messages.items()]
    return f"{_INTRO}## Topics\n\n{table(('topic', 'records', 'meaning'), channels)}\n" + "\n".join(sections)


def _names(channel: Any) -> Iterator[str]:
    for one in channel.get("messages", {}).values():
        name = one["$ref"].rpartition("/")[2]
        yield f"[{name}](#{name.lower()})"


def _message(document: Any, name: str, one: Any) -> str:
    headers = resolved(document, one.get("headers", {}))
    required = headers.get("required", ())
    rows = [
        (code(header), "yes" if header in required else "", _described(document, schema))
        for header, schema in headers.get("properties", {}).items()
    ]
    text = one.get("description", one.get("summary", ""))
    return f"## {name}\n\n{text}\n\n{table(('header', 'required', 'meaning'), rows)}"


def _described(document: Any, schema: Any) -> str:
    schema = resolved(document, schema)
    values = ", ".join(code(value) for value in schema.get("enum", ()))
    return f"{schema.get('description', '')} {values and f'One of {values}.'}".strip()
