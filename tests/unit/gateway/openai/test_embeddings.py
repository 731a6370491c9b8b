"""Tests of requests for embeddings and of their responses."""

import base64
import json

import numpy as np
import pytest

from gateway.openai.embeddings import embedding_pieces, read_embedding_request, read_needs
from schemas.errors import InvalidRequest
from schemas.openai import EmbeddingRequest

FIELDS = EmbeddingRequest.__struct_fields__


def body(**fields: object) -> bytes:
    return json.dumps({"model": "sentences", "input": "a"} | fields).encode()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", "the body is empty"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"input": "a"}', "missing required field `model`"),
        (b'{"model": "m"}', "missing required field `input`"),
        (body(model=""), r"\$\.model"),
        (body(encoding_format="int8"), r"\$\.encoding_format"),
        (body(dimensions=0), r"\$\.dimensions"),
        (b"[" * 100_000, "nested too deeply|Expected `object`"),
    ],
)
def test_read_embedding_request_names_wrong_field(content: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        read_embedding_request(content)


def test_read_needs_returns_needs_beside_own_fields() -> None:
    found = read_needs(body(user="u", latency_ms=50, min_accuracy=0.8, allow_late=True), FIELDS)
    assert found == {"latency_ms": 50, "min_accuracy": 0.8, "allow_late": True}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_acuracy": 0.8}, r"\$\.min_acuracy: there is no such field; did you mean min_accuracy\?"),
        ({"dimension": 3}, "did you mean dimensions"),
        ({"zzzzzz": 3}, "there are model, input"),
        ({"explain": True}, r"\$\.explain: there is no such field"),
        ({"latency_ms": [1]}, r"\$\.latency_ms: Expected"),
    ],
)
def test_read_needs_refuses_unknown_fields(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_needs(body(**fields), FIELDS)


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.parametrize("count", [1, 5000])
def test_embedding_pieces_join_to_the_response(encoding: str, count: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((count, 4)).astype(np.float32)
    pieces = embedding_pieces("m", vectors, 7, encoding)  # pyright: ignore[reportArgumentType]
    answer = json.loads(b"".join(pieces))
    assert answer["model"] == "m"
    assert answer["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    assert [one["index"] for one in answer["data"]] == list(range(count))
    texts = [one["embedding"] for one in answer["data"]]
    found = [np.frombuffer(base64.b64decode(one), "<f4") for one in texts] if encoding == "base64" else texts
    np.testing.assert_array_equal(np.array(found, np.float32), vectors)
