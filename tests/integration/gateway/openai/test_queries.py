"""Tests of embeddings, reranking and models, by OpenAI's own client."""

import asyncio
import base64
import json
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest
from openai import OpenAI

from schemas import headers as h
from schemas.errors import Overloaded
from tests.integration.gateway.openai.conftest import OpenAiSystem
from tests.openai_tasks import REFUSED, vector_of

TEXTS = ["a wonderful film", "two words", "three"]


async def test_embeddings_are_those_of_the_model(encoder: OpenAiSystem) -> None:
    answer = await encoder.client.embeddings.create(model=encoder.task, input=TEXTS)
    assert [one.index for one in answer.data] == [0, 1, 2]
    np.testing.assert_array_equal([one.embedding for one in answer.data], [vector_of(text) for text in TEXTS])
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (encoder.task, 6, 6)
    assert len(encoder.responder.seen) == 1, "a list of texts is one query"
    assert encoder.responder.seen[0][h.BATCH] == "3"


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_embeddings_have_the_requested_form(encoder: OpenAiSystem, encoding: Any) -> None:
    body = {"model": encoder.task, "input": "one", "encoding_format": encoding}
    async with aiohttp.request("POST", f"{encoder.url}/v1/embeddings", json=body) as answer:
        value = (await answer.json())["data"][0]["embedding"]
        variant = answer.headers[h.VARIANT]
    found = np.frombuffer(base64.b64decode(value), "<f4") if encoding == "base64" else value
    np.testing.assert_array_equal(np.array(found, np.float32), np.array(vector_of("one"), np.float32))
    assert variant == "hasher.onnx-fp32.cpu"


async def test_embeddings_by_the_synchronous_client(encoder: OpenAiSystem) -> None:
    def ask() -> list[float]:
        with OpenAI(base_url=f"{encoder.url}/v1", api_key="me", max_retries=0) as client:
            assert encoder.task in [model.id for model in client.models.list()]
            return client.embeddings.create(model=encoder.task, input="one", encoding_format="float").data[0].embedding

    assert await asyncio.to_thread(ask) == pytest.approx(vector_of("one"))


async def test_embeddings_pass_needs_and_target(encoder: OpenAiSystem) -> None:
    needs = {"latency_ms": 5000, "min_accuracy": 0.8}
    await encoder.client.embeddings.create(model="hasher", input="one", extra_body=needs, extra_query={"max_cost": "3"})
    (seen,) = encoder.responder.seen
    assert (seen[h.LATENCY_MS], seen[h.MIN_ACCURACY], seen[h.MAX_COST], seen[h.TARGET]) == (
        "5000",
        "0.8",
        "3",
        "hasher",
    )


@pytest.mark.parametrize(
    ("fields", "kind", "param", "code"),
    [
        ({"model": "absent"}, openai.NotFoundError, None, "unknown_task"),
        ({"input": []}, openai.BadRequestError, "input", "invalid_request"),
        ({"input": [1, 2]}, openai.BadRequestError, "input", "invalid_request"),
        ({"input": ["a", 2]}, openai.BadRequestError, "input", "invalid_request"),
        ({"input": ["a"] * 2049}, openai.BadRequestError, "input", "invalid_request"),
        ({"dimensions": 2}, openai.BadRequestError, "dimensions", "invalid_request"),
        ({"encoding_format": "int8"}, openai.BadRequestError, "encoding_format", "invalid_request"),
        ({"extra_body": {"min_acuracy": 1}}, openai.BadRequestError, "min_acuracy", "invalid_request"),
        ({"extra_body": {"min_accuracy": 7}}, openai.BadRequestError, "min_accuracy", "invalid_request"),
        ({"input": REFUSED}, openai.InternalServerError, None, "model_failed"),
        ({"input": "a" * 70_000}, openai.APIStatusError, None, "invalid_request"),
    ],
)
async def test_bad_requests_have_openais_errors(
    encoder: OpenAiSystem, fields: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, code: str
) -> None:
    asked: dict[str, Any] = {"model": encoder.task, "input": "a"} | fields
    with pytest.raises(kind) as raised:
        await encoder.client.embeddings.create(**asked)
    assert (raised.value.param, raised.value.code) == (param, code)
    assert raised.value.type
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["message"]


async def test_refusal_tells_the_client_when_to_retry(encoder: OpenAiSystem) -> None:
    def refuse(_fields: dict[str, str], _value: bytes) -> tuple[bytes, dict[str, str]]:
        raise Overloaded("not now", retry_after_s=0.25)

    encoder.responder.answer = refuse
    with pytest.raises(openai.InternalServerError) as raised:
        await encoder.client.embeddings.create(model=encoder.task, input="a")
    headers = raised.value.response.headers
    assert (raised.value.status_code, headers["retry-after"], headers["x-should-retry"]) == (503, "1", "true")


async def test_failure_of_the_model_is_not_retried(encoder: OpenAiSystem) -> None:
    with pytest.raises(openai.InternalServerError) as raised:
        await encoder.client.with_options(max_retries=3).embeddings.create(model=encoder.task, input=REFUSED)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(encoder.responder.seen) == 1


async def test_chat_of_task_that_is_not_generative_is_refused(encoder: OpenAiSystem) -> None:
    with pytest.raises(openai.BadRequestError, match="not of a generative task"):
        await encoder.client.chat.completions.create(model=encoder.task, messages=[{"role": "user", "content": "hi"}])


async def test_models_are_tasks_architectures_and_variants(encoder: OpenAiSystem) -> None:
    names = [model.id async for model in encoder.client.models.list()]
    assert names == ["hasher", "hasher.onnx-fp32.cpu", encoder.task]
    assert (await encoder.client.models.retrieve("hasher.onnx-fp32.cpu")).owned_by == "infaas"
    with pytest.raises(openai.NotFoundError):
        await encoder.client.models.retrieve("absent")


async def test_rerank_orders_documents(encoder: OpenAiSystem) -> None:
    body = {"model": encoder.task, "query": "one", "documents": ["two", {"text": "one"}, "three"], "top_n": 2}
    async with aiohttp.request("POST", f"{encoder.url}/v1/rerank", json=body) as answer:
        found = json.loads(await answer.read())
    assert found["results"][0] == {"index": 1, "relevance_score": pytest.approx(1), "document": {"text": "one"}}
    query, documents = np.array(vector_of("one")), np.array([vector_of("two"), vector_of("three")])
    scores = documents @ query / np.linalg.norm(documents, axis=1) / np.linalg.norm(query)
    assert found["results"][1]["relevance_score"] == pytest.approx(scores.max())
    assert found["usage"] == {"total_tokens": 4}
