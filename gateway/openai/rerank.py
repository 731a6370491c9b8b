"""`POST /v1/rerank`: orders documents by the cosine similarity of their vectors to that of a query. Pure.

Request and response are those of Cohere, Jina and vLLM.
"""

from typing import Final

import msgspec
import numpy as np

from gateway.openai.embeddings import read_json
from gateway.openai.vectors import VectorResult
from schemas.openai import RerankDocument, RerankRequest, RerankResponse, RerankResult

_LEAST: Final = 1e-12


_rerank: Final = msgspec.json.Decoder(RerankRequest)


def read_rerank_request(body: bytes) -> RerankRequest:
    """Read a request.

    Raises:
        InvalidRequest: it is invalid; the message names the field.
    """
    return read_json(body, _rerank)


def rerank_response(query_id: str, request: RerankRequest, found: VectorResult) -> RerankResponse:
    """Return the response; the first vector is the query's, the others are those of the documents."""
    vectors = found.vectors.astype(np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _LEAST)
    scores = vectors[1:] @ vectors[0]
    order = np.argsort(-scores, kind="stable")[: request.top_n]
    texts = request.texts
    with_texts = request.return_documents is not False
    results = [
        RerankResult(index, float(scores[index]), RerankDocument(texts[index]) if with_texts else None)
        for index in order.tolist()
    ]
    return RerankResponse(query_id, request.model, results, {"total_tokens": found.tokens or 0})
