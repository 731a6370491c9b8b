"""Tests of the generated documents and of their HTML page."""

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas import headers
from schemas.documents import components, openai, openapi
from schemas.documents.__main__ import FOLDER, PAGE, stale
from schemas.documents.components import ROOTS
from schemas.documents.page import page
from schemas.errors import ErrorCode
from schemas.oip import encode_request, encode_response
from schemas.openai import EMBEDDINGS
from schemas.openai_generation import CHAT, COMPLETIONS


def load(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / name).read_text())


def test_generated_documents_are_current() -> None:
    assert stale() == [], "run `make docs` and commit the result"


def test_admin_api_page_lists_all_endpoints() -> None:
    """The table also contains the one request whose body is a file; OpenAI's paths are described elsewhere."""
    described = {(m.upper(), path) for path, methods in load("openapi.json")["paths"].items() for m in methods}
    rows = re.findall(r"^\| `[a-z.-]+` \| `([A-Z]+) (/v1/[^`]+)`", PAGE.read_text(), re.MULTILINE)
    admin = {(method, path) for method, path in described if path.startswith("/v1/") and path not in openai.paths()}
    assert set(rows) == admin


@pytest.mark.parametrize("root", ROOTS)
def test_json_schemas_are_valid(root: str) -> None:
    jsonschema.Draft202012Validator.check_schema(load(f"{root}.schema.json"))


def test_json_schemas_accept_encoded_messages() -> None:
    tensors = {"x": np.ones((2, 2), np.float32)}
    for binary in (True, False):
        value, length, _ = encode_request(tensors, request_id="1", parameters={"latency_ms": 5}, binary=binary)
        jsonschema.validate(json.loads(value[:length]), load("InferRequest.schema.json"))
        value, length, _ = encode_response("m", "1", tensors, {"variant": "v"}, binary=binary)
        jsonschema.validate(json.loads(value[:length]), load("InferResponse.schema.json"))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": [{"name": "x"}]}, load("InferRequest.schema.json"))


def test_openapi_is_valid_and_contains_all_errors() -> None:
    document = load("openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    assert {error["code"] for error in document["x-infaas-errors"]} == set(ErrorCode)


def parameters_of(path: str, place: str) -> set[str]:
    """Return the names of the parameters of an operation that are sent in this place."""
    return {one["name"] for one in load("openapi.json")["paths"][path]["post"]["parameters"] if one["in"] == place}


MAKING = (CHAT, COMPLETIONS, "/v2/models/{name}/generate", "/v2/models/{name}/generate_stream")
"""Paths that make texts."""


@pytest.mark.parametrize("path", [*MAKING, EMBEDDINGS, "/v1/rerank", "/v2/models/{name}/infer"])
def test_openapi_lists_all_needs_of_queries(path: str) -> None:
    assert set(headers.NEEDS.values()) <= parameters_of(path, "header")
    assert set(headers.NEEDS) <= parameters_of(path, "query")
    slo = parameters_of(path, "header") & set(headers.SLO)
    assert slo == (set(headers.SLO) if path in MAKING else set())


def test_clients_page_and_documents_describe_all_headers() -> None:
    known = [value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)]
    text = (FOLDER.parent.parent / "docs" / "clients.md").read_text()
    table = text.partition("| header | set by | bound | verified by |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    names = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(names) == sorted(known)
    assert set(known) == {*components.FORWARDED, *components.RESULT, *components.PART}


def test_openapi_page_lists_routes_without_external_resources() -> None:
    document = openapi.document()
    text = page(document)
    links, ids = set(re.findall(r'(?:href|src)="([^"]*)"', text)), set(re.findall(r'id="([^"]*)"', text))
    assert {link for link in links if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert all(f"<code>{path}</code>" in text for path in document["paths"])
    assert not re.search(r"<script|url\(|@import", text)
