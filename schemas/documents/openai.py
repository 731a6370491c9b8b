"""Routes of OpenAI's API in the OpenAPI document."""

from typing import Any, Final

import msgspec

from schemas import headers as h
from schemas import openai, openai_generation
from schemas.documents import components
from schemas.documents.components import ref
from schemas.openai import EMBEDDINGS
from schemas.openai_generation import CHAT, COMPLETIONS

_JSON: Final = "application/json"
_TEXT: Final = {"type": "string"}
_VECTOR_NEEDS: Final = tuple(name for name in openai.NEEDS if name not in h.GENERATIVE_NEEDS)
_STRUCTS: Final = (
    openai.OpenAiErrorBody,
    openai.OpenAiModels,
    openai.EmbeddingRequest,
    openai.RerankRequest,
    openai.RerankResponse,
    openai_generation.ChatRequest,
    openai_generation.ChatCompletion,
    openai_generation.ChatChunk,
    openai_generation.CompletionRequest,
    openai_generation.TextCompletion,
    openai_generation.TextChunk,
    openai.OpenAiFiles,
    openai.DeletedFile,
    openai.BatchRequest,
    openai.OpenAiBatches,
)
_ANY_REQUEST: Final = (400, 401, 403, 408, 503)
_QUERY: Final = (404, 413, 415, 422, 429, 500, 504)


def paths() -> dict[str, Any]:
    """Return the operations by path and method."""
    of_vectors, of_texts = _told_needs(_VECTOR_NEEDS), _told_needs(openai.NEEDS)
    embeddings = f"Compute vectors of texts or token ids by an embedding task, as one query. {of_vectors}"
    rerank = f"Order documents by the cosine similarity of their vectors to a query's. {of_vectors}"
    chat = f"Make the next message of a chat by a generative task, whole or as server-sent events. {of_texts}"
    text = f"Make the text after a prompt by a generative task, whole or as server-sent events. {of_texts}"
    return {
        CHAT: {"post": _making(_asking("createChatCompletion", chat, "ChatRequest", "ChatCompletion"), "ChatChunk")},
        COMPLETIONS: {
            "post": _making(_asking("createCompletion", text, "CompletionRequest", "TextCompletion"), "TextChunk")
        },
        EMBEDDINGS: {"post": _asking("createEmbeddings", embeddings, "EmbeddingRequest", "EmbeddingResponse")},
        "/v1/rerank": {"post": _asking("rerank", rerank, "RerankRequest", "RerankResponse")},
        "/v1/models": {"get": _operation("listOpenAiModels", "Names for `model` that are ready.", "OpenAiModels")},
        "/v1/models/{model}": {"get": _of_one("showOpenAiModel", "A name for `model`.", "OpenAiModel", "model")},
        **_files(),
        **_batches(),
    }


def schemas() -> dict[str, Any]:
    """Return the schemas that only these routes use."""
    _, found = msgspec.json.schema_components(_STRUCTS, ref_template=components.REF)
    for name in ("EmbeddingRequest", "RerankRequest", "ChatRequest", "CompletionRequest"):
        needs = {need: {"type": ["string", "number", "boolean"]} for need in openai.NEEDS}
        found[name]["properties"] = needs | found[name]["properties"]
        found[name]["additionalProperties"] = False
    ids = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
    texts, many = {"type": "array", "items": _TEXT}, {"type": "array", "items": ids}
    found["EmbeddingRequest"]["properties"]["input"] = {"anyOf": [_TEXT, texts, ids, many]}
    count = {"type": "integer"}
    usage = {"type": "object", "properties": {"prompt_tokens": count, "total_tokens": count}}
    vector = {"anyOf": [_TEXT, {"type": "array", "items": {"type": "number"}}]}
    data = {"type": "object", "properties": {"object": _TEXT, "index": {"type": "integer"}, "embedding": vector}}
    found["EmbeddingResponse"] = {
        "type": "object",
        "properties": {"object": _TEXT, "data": {"type": "array", "items": data}, "model": _TEXT, "usage": usage},
        "required": ["object", "data", "model", "usage"],
    }
    return found


def _files() -> dict[str, Any]:
    path = "/v1/files"
    upload = _operation("uploadFile", "Upload the input file of a batch, as a form.", "OpenAiFile", 413, 415, 429)
    form = {"type": "object", "properties": {"purpose": {"const": openai.BATCH}, "file": _TEXT}}
    upload["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": form}}}
    listed = _operation("listFiles", "List files, the latest first.", "OpenAiFiles")
    listed["parameters"] = [*_page(), _parameter("query", "purpose", _TEXT), _parameter("query", "order", _TEXT)]
    content = _of_one("fileContent", "Content of a file.", "", "id")
    content["responses"]["200"] = {"description": "OK", "content": {"application/octet-stream": {"schema": _TEXT}}}
    return {
        path: {"post": upload, "get": listed},
        f"{path}/{{id}}": {
            "get": _of_one("showFile", "Description of a file.", "OpenAiFile", "id"),
            "delete": _of_one("deleteFile", "Delete a file that no open batch reads.", "DeletedFile", "id"),
        },
        f"{path}/{{id}}/content": {"get": content},
    }


def _batches() -> dict[str, Any]:
    path = "/v1/batches"
    create = _operation(
        "createBatch",
        "Compute the lines of a file in idle time, within a window of at most a day; each line is a job.",
        "OpenAiBatch",
        413,
        415,
    )
    create["requestBody"] = {"required": True, "content": {_JSON: {"schema": ref("BatchRequest")}}}
    listed = _operation("listBatches", "List batches, the latest first.", "OpenAiBatches") | {"parameters": _page()}
    cancel = _of_one("cancelBatch", "Cancel a batch; its results so far stay.", "OpenAiBatch", "id", 409)
    return {
        path: {"post": create, "get": listed},
        f"{path}/{{id}}": {"get": _of_one("showBatch", "Status of a batch.", "OpenAiBatch", "id")},
        f"{path}/{{id}}/cancel": {"post": cancel},
    }


def _asking(operation: str, summary: str, request: str, response: str) -> dict[str, Any]:
    described = _operation(operation, summary, response, *_QUERY)
    described["requestBody"] = {"required": True, "content": {_JSON: {"schema": ref(request)}}}
    passed = components.NEEDS | components.TRACE
    described["parameters"] = [_parameter("header", name, schema) for name, schema in passed.items()]
    described["parameters"] += [_parameter("query", name, components.NEEDS[header]) for name, header in h.NEEDS.items()]
    return described


def _told_needs(needs: tuple[str, ...]) -> str:
    names = ", ".join(f"`{name}`" for name in needs)
    return (
        f"Needs are fields beside these ({names}), headers, or in the query string; the client library of OpenAI takes "
        "them as `extra_body`."
    )


def _making(described: dict[str, Any], chunk: str) -> dict[str, Any]:
    """Return an operation that makes a text: its answer may be a list of events, and other gateways state its needs."""
    described["parameters"] += [_parameter("header", name, schema) for name, schema in components.SLO.items()]
    described["responses"]["200"]["content"]["text/event-stream"] = {"schema": ref(chunk)}
    return described


def _of_one(operation: str, summary: str, response: str, name: str, *errors: int) -> dict[str, Any]:
    described = _operation(operation, summary, response, 404, *errors)
    described["parameters"] = [_parameter("path", name, _TEXT) | {"required": True}]
    return described


def _operation(operation: str, summary: str, response: str, *errors: int) -> dict[str, Any]:
    refused = {"description": "The error, in OpenAI's form", "content": {_JSON: {"schema": ref("OpenAiErrorBody")}}}
    answers: dict[str, Any] = {str(status): refused for status in sorted({*_ANY_REQUEST, *errors})}
    if response:
        answers["200"] = {"description": "OK", "content": {_JSON: {"schema": ref(response)}}}
    return {"operationId": operation, "summary": summary, "responses": answers}


def _page() -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": openai.MOST_LISTED}
    return [_parameter("query", "limit", limit), _parameter("query", "after", _TEXT)]


def _parameter(place: str, name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema}
