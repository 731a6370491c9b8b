"""Tests of requests to order documents, and of the order."""

import json
from typing import Any

import numpy as np
import pytest

from gateway.openai.rerank import read_rerank_request, rerank_response
from gateway.openai.vectors import VectorResult
from schemas.errors import InvalidRequest
from schemas.openai import MOST_INPUTS, RerankDocument

VECTORS = np.array([[2, 0], [0, 1], [5, 0], [1, 1], [0, 0]], np.float32)
"""A query, and four documents."""


def a_request(**fields: Any) -> bytes:
    documents = ["across", {"text": "same"}, "between", "nothing"]
    return json.dumps({"model": "m", "query": "q", "documents": documents} | fields).encode()


def test_rerank_response_orders_by_cosine() -> None:
    found = rerank_response("q-1", read_rerank_request(a_request()), VectorResult(VECTORS, 9))
    assert [one.index for one in found.results] == [1, 2, 0, 3]
    assert [one.relevance_score for one in found.results] == pytest.approx([1, 0.5**0.5, 0, 0])
    assert found.results[0].document == RerankDocument("same")
    assert found.usage == {"total_tokens": 9}


def test_rerank_response_shortens_and_omits_texts() -> None:
    request = read_rerank_request(a_request(top_n=2, return_documents=False))
    found = rerank_response("q-1", request, VectorResult(VECTORS, None))
    assert [(one.index, one.document) for one in found.results] == [(1, None), (2, None)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"documents": []}, r"\$\.documents"),
        ({"documents": ["a"] * MOST_INPUTS}, r"\$\.documents"),
        ({"documents": [3]}, r"\$\.documents\[0\]"),
        ({"query": 3}, r"\$\.query"),
        ({"top_n": 0}, r"\$\.top_n"),
    ],
)
def test_read_rerank_request_names_wrong_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_rerank_request(a_request(**fields))
