"""JSON Schema (2020-12) of the wire structs, which msgspec derives from their types."""

from typing import Any, Final

import msgspec

from schemas.jobs import Job
from schemas.load_classes import SelectorLoad
from schemas.oip import RequestHead, ResponseHead
from schemas.result import ErrorBody
from schemas.status import Demand, WorkerStatus
from schemas.tensors import DTYPES

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ROOTS: Final = {
    "InferRequest": RequestHead,
    "InferResponse": ResponseHead,
    "WorkerStatus": WorkerStatus,
    "Demand": Demand,
    "SelectorLoad": SelectorLoad,
    "Job": Job,
}
"""Structs by their names in the documents."""
_DATA: Final = {
    "description": "The elements, row-major, flat or nested; absent if `parameters.binary_data_size` is given.",
    "type": "array",
}


def components(ref: str) -> dict[str, Any]:
    """Return the JSON Schemas by name; `ref` is the template of references, e.g. `#/components/schemas/{name}`."""
    kinds = [*ROOTS.values(), ErrorBody]
    _, found = msgspec.json.schema_components(kinds, ref_template=ref)
    renamed = {kind.__name__: name for name, kind in ROOTS.items()}
    schemas = {renamed.get(name, name): _renamed(schema, renamed, ref) for name, schema in sorted(found.items())}
    tensor = schemas["TensorHead"]["properties"]
    tensor["data"] = _DATA
    tensor["datatype"]["enum"] = list(DTYPES)
    return schemas


def json_schema(root: str) -> dict[str, Any]:
    """Return the JSON Schema document of one struct, including every schema that it refers to."""
    schemas = components("#/$defs/{name}")
    return {"$schema": DIALECT, "title": root, "$ref": f"#/$defs/{root}", "$defs": _reachable(root, schemas)}


def _renamed(node: Any, names: dict[str, str], ref: str) -> Any:
    if isinstance(node, dict):
        return {key: _renamed(value, names, ref) for key, value in node.items()}
    if isinstance(node, list):
        return [_renamed(value, names, ref) for value in node]
    for old, new in names.items():
        if node == ref.format(name=old):
            return ref.format(name=new)
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
