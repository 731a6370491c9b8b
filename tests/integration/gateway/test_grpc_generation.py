"""Tests of generative answers over gRPC, by Triton's client."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np
import tritonclient.grpc.aio as triton

from schemas import headers as h
from tests.generative_tasks import WRITER, words_of
from tests.integration.gateway.conftest import WritingSystem
from tests.waiting import PATIENCE_S, until

TEXT = "".join(words_of("hello"))


def an_input(*prompts: str) -> triton.InferInput:
    made = triton.InferInput("text_input", [len(prompts)], "BYTES")
    made.set_data_from_numpy(np.array([prompt.encode() for prompt in prompts], np.object_))
    return made


async def answers_to(
    client: triton.InferenceServerClient, task: str, *requests: dict[str, Any]
) -> list[tuple[Any, Exception | None]]:
    async def asked() -> AsyncGenerator[dict[str, Any]]:
        for request in requests:
            yield {"model_name": task} | request

    return [answer async for answer in the_stream(client, asked())]


def the_stream(client: triton.InferenceServerClient, asked: AsyncGenerator[dict[str, Any]]) -> Any:
    return client.stream_infer(asked)


def is_final(result: Any) -> bool:
    return result.get_response().parameters["triton_final_response"].bool_param


async def test_grpc_stream_sends_parts_then_end(writing: WritingSystem) -> None:
    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        request = {"inputs": [an_input("hello")], "request_id": "7", "parameters": {"temperature": 0, "tpot_ms": 50}}
        found = await answers_to(client, writing.task, request)
    assert not [error for _, error in found if error is not None]
    results = [result for result, _ in found]
    assert b"".join(result.as_numpy("text_output")[0] for result in results).decode() == TEXT
    assert [is_final(result) for result in results] == [False] * (len(results) - 1) + [True]
    end = results[-1].get_response()
    assert (end.id, end.model_name, end.parameters["completion_tokens"].int64_param) == ("7", WRITER, 8)
    assert results[-1].as_numpy("finish_reason")[0] == b"length"
    (seen,) = writing.writer.seen
    assert (seen.fields[h.TPOT_MS], seen.fields[h.STREAM], seen.parameters["temperature"]) == ("50", "true", 0)


async def test_grpc_infer_answers_whole(writing: WritingSystem) -> None:
    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        whole: Any = await client.infer(writing.task, [an_input("one", "two")])
        ((streamed, error),) = await answers_to(client, writing.task, {"inputs": [an_input("one", "two")]})
    assert error is None
    expected = ["".join(words_of(prompt)).encode() for prompt in ("one", "two")]
    assert whole.as_numpy("text_output").tolist() == streamed.as_numpy("text_output").tolist() == expected


async def test_grpc_stream_reports_restart_and_continues(writing: WritingSystem) -> None:
    writing.writer.rewrite = lambda made, words: ["another ", *words[1:]] if made.prompts == ["lost"] else words
    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        requests = [{"inputs": [an_input(prompt)], "request_id": prompt} for prompt in ("lost", "hello")]
        found = await answers_to(client, writing.task, *requests)
    (error,) = [error for _, error in found if error is not None]
    assert "restarted" in str(error)
    texts = [result.as_numpy("text_output")[0] for result, _ in found if result and result.get_response().id == "hello"]
    assert b"".join(texts).decode() == TEXT


async def test_grpc_client_that_leaves_stops_writer(writing: WritingSystem) -> None:
    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        await answers_to(client, writing.task, {"inputs": [an_input("connect the reply stream")]})
        words = writing.writer.by_turns()

        async def asked() -> AsyncGenerator[dict[str, Any]]:
            yield {"model_name": writing.task, "inputs": [an_input("hello")]}
            await asyncio.Event().wait()

        stream = the_stream(client, asked())
        words.release()
        await anext(stream)
        stream.cancel()
        await until(lambda: writing.query_client.in_flight == 0)
        made = writing.writer.seen[-1]
        words.release()
        await until(made.unwanted.is_set)


async def test_grpc_infer_of_client_that_leaves_stops_writer(writing: WritingSystem) -> None:
    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        await answers_to(client, writing.task, {"inputs": [an_input("connect the reply stream")]})
        words = writing.writer.by_turns()
        asked: asyncio.Future[Any] = asyncio.ensure_future(client.infer(writing.task, [an_input("hello")]))
        words.release()
        await until(lambda: writing.writer.seen[-1].written == 1)
        asked.cancel()
        await until(lambda: writing.query_client.in_flight == 0)
        words.release()
        await until(writing.writer.seen[-1].unwanted.is_set)


async def test_grpc_stream_ends_by_requested_outputs(writing: WritingSystem) -> None:
    def outputs(*names: str) -> list[triton.InferRequestedOutput]:
        return [triton.InferRequestedOutput(name) for name in names]

    async with asyncio.timeout(PATIENCE_S), triton.InferenceServerClient(writing.grpc) as client:
        asked = {"inputs": [an_input("hello")], "outputs": outputs("text_output", "completion_tokens")}
        *_parts, (end, _error) = await answers_to(client, writing.task, asked)
        asked = {"inputs": [an_input("hello")], "outputs": outputs("finish_reason")}
        ((only, error),) = await answers_to(client, writing.task, asked)
    assert end.get_response().parameters["completion_tokens"].int64_param == 8
    assert end.as_numpy("finish_reason") is None
    assert error is None
    assert only.as_numpy("finish_reason")[0] == b"length"
