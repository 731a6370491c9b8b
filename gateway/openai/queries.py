"""Routes of queries in OpenAI's form, and of models: `/v1/embeddings`, `/v1/rerank`, `/v1/models`."""

import asyncio

from aiohttp import web

from gateway.http.answers import json_response
from gateway.http.authorization import models_for, principal_of
from gateway.http.bodies import RequestBodies
from gateway.http.inference import client_of
from gateway.inference import ArrivedRequest, Inference, result_headers
from gateway.model_directory import ModelDirectory, ServedModel
from gateway.openai.embeddings import embedding_pieces, read_embedding_request, read_needs
from gateway.openai.models import openai_model, openai_models
from gateway.openai.rerank import read_rerank_request, rerank_response
from gateway.openai.vectors import check_dimensions, decode_vectors, encode_query, read_inputs, token_ids, vector_output
from gateway.translation import made_headers
from schemas.oip import EncodedMessage
from schemas.openai import EMBEDDINGS, EmbeddingRequest, RerankRequest
from schemas.result import Result
from schemas.signature import JSON


class OpenAiQueryRoutes:
    """Handlers of embeddings, reranking and models.

    Args:
        models: names that clients may use as models.
        inference: executor of queries.
        bodies: reader of request bodies.
    """

    def __init__(self, models: ModelDirectory, inference: Inference, bodies: RequestBodies) -> None:
        self._models = models
        self._inference = inference
        self._bodies = bodies

    def routes(self) -> list[web.RouteDef]:
        """Return the routes to add to the application."""
        return [
            web.post(EMBEDDINGS, self.embeddings),
            web.post("/v1/rerank", self.rerank),
            web.get("/v1/models", self.list),
            web.get("/v1/models/{model}", self.show),
        ]

    async def embeddings(self, request: web.Request) -> web.Response:
        """Answer with the vectors of texts or token ids."""
        async with self._bodies.reading(request.content, request.headers) as body:
            asked = read_embedding_request(body)
            needs = read_needs(body, EmbeddingRequest.__struct_fields__)
            model = models_for(request, self._models).find(asked.model)
            check_dimensions(model, asked.dimensions)
            inputs = read_inputs(asked.input)
            query = encode_query(model, inputs, needs)
        result = await self._ask(request, model, query)
        found, pieces = decode_vectors(vector_output(model).name, result), list[bytes]()
        tokens = token_ids(inputs) if found.tokens is None else found.tokens
        for piece in embedding_pieces(asked.model, found.vectors, tokens, asked.encoding_format):
            pieces.append(piece)
            await asyncio.sleep(0)  # thousands of vectors take longer than other requests may wait
        return web.Response(body=b"".join(pieces), content_type=JSON, headers=result_headers(result))

    async def rerank(self, request: web.Request) -> web.Response:
        """Answer with documents in the order of their similarity to a query."""
        async with self._bodies.reading(request.content, request.headers) as body:
            asked = read_rerank_request(body)
            needs = read_needs(body, RerankRequest.__struct_fields__)
            model = models_for(request, self._models).find(asked.model)
            query = encode_query(model, [asked.query, *asked.texts], needs)
        result = await self._ask(request, model, query)
        response = rerank_response(result.id, asked, decode_vectors(vector_output(model).name, result))
        return json_response(response, headers=result_headers(result))

    async def list(self, request: web.Request) -> web.Response:
        """List the names that queries may give as their model."""
        return json_response(openai_models(models_for(request, self._models)))

    async def show(self, request: web.Request) -> web.Response:
        """Answer with one model."""
        return json_response(openai_model(models_for(request, self._models).find(request.match_info["model"])))

    async def _ask(self, request: web.Request, model: ServedModel, query: EncodedMessage) -> Result:
        made = ArrivedRequest(made_headers(request.headers, request.query, query), query.value)
        return await self._inference.ask_made(model, principal_of(request), client_of(request.transport), made)
