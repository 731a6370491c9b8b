"""References within OpenAPI and AsyncAPI documents."""

from typing import Any


def resolved(document: Any, one: Any) -> Any:
    """Return an object, or the object of the document that its `$ref` names."""
    if "$ref" not in one:
        return one
    found = document
    for key in one["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return found
