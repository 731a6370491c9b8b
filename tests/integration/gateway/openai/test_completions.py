"""Tests of chats and text completions, by OpenAI's own client."""

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import OpenAI

from schemas import headers as h
from tests.generative_tasks import WRITER, words_of
from tests.integration.gateway.conftest import WritingSystem
from tests.waiting import PATIENCE_S, until

ASKED: list[Any] = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
TEXT = "".join(words_of("hello"))


async def test_chat_answers_whole(writing: WritingSystem) -> None:
    answer = await writing.client.chat.completions.create(model=writing.task, messages=ASKED)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "length")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 8, 13)
    assert (answer.model, answer.system_fingerprint, answer.object) == (writing.task, WRITER, "chat.completion")
    assert writing.writer.seen[0].fields[h.ID] == answer.id
    assert json.loads(writing.writer.seen[0].prompts[0]) == ASKED


async def test_chat_streams_answer(writing: WritingSystem) -> None:
    async with await writing.client.chat.completions.create(
        model="writer", messages=ASKED, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 8
    assert len({chunk.id for chunk in chunks}) == 1
    assert writing.writer.seen[0].fields[h.TARGET] == "writer"


async def test_chat_streams_first_word_before_second_is_made(writing: WritingSystem) -> None:
    words = writing.writer.by_turns()
    words.release()
    async with asyncio.timeout(PATIENCE_S):
        stream = await writing.client.completions.create(model=writing.task, prompt="hello", stream=True)
        assert (await anext(stream)).choices[0].text == "hello "
        for _ in range(7):
            words.release()
        rest = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in rest) == TEXT.removeprefix("hello ")


async def test_completions_answer_each_prompt(writing: WritingSystem) -> None:
    answer = await writing.client.completions.create(model=writing.task, prompt=["one", "two"], max_tokens=3)
    assert [choice.text for choice in answer.choices] == ["".join(words_of(text, 3)) for text in ("one", "two")]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.total_tokens == 16


def ask_synchronously(url: str, task: str) -> tuple[str, str]:
    with OpenAI(base_url=f"{url}/v1", api_key="me", max_retries=0) as client:
        whole = client.chat.completions.create(model=task, messages=ASKED).choices[0].message.content
        stream = client.chat.completions.create(model=task, messages=ASKED, stream=True)
        return whole or "", "".join(chunk.choices[0].delta.content or "" for chunk in stream)


async def test_chat_answers_synchronous_client(writing: WritingSystem) -> None:
    assert await asyncio.to_thread(ask_synchronously, writing.url, writing.task) == (TEXT, TEXT)


async def test_chat_passes_options_and_needs(writing: WritingSystem) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
    await writing.client.chat.completions.create(
        model=writing.task,
        messages=ASKED,
        max_completion_tokens=4,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=["a", "b"],
        presence_penalty=0.1,
        frequency_penalty=-0.1,
        response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema}},
        extra_body={"latency_ms": 5000, "ttft_ms": 500, "top_k": 3},
        extra_headers={"x-slo-tpot-ms": "40", "x-slo-ttft-ms": "100"},
    )
    (seen,) = writing.writer.seen
    passed = {name: seen.parameters[name] for name in ("chat", "temperature", "top_p", "top_k", "seed", "stop")}
    assert passed == {"chat": True, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 7, "stop": '["a","b"]'}
    assert json.loads(seen.parameters["json_schema"]) == schema
    needs = {name: seen.fields[header] for name, header in h.NEEDS.items() if header in seen.fields}
    assert needs == {"latency_ms": "5000", "ttft_ms": "100", "tpot_ms": "40", "max_tokens": "4"}


async def test_chat_header_of_other_gateway_overrides_query_string(writing: WritingSystem) -> None:
    """As every header does, so that a proxy can set limits."""
    await writing.client.chat.completions.create(
        model=writing.task, messages=ASKED, extra_headers={"x-slo-ttft-ms": "100"}, extra_query={"ttft_ms": 500}
    )
    assert writing.writer.seen[0].fields[h.TTFT_MS] == "100"


@pytest.mark.parametrize("streamed", [True, False])
async def test_chat_gives_logprobs(writing: WritingSystem, streamed: bool) -> None:
    options: dict[str, Any] = {"model": writing.task, "messages": ASKED, "logprobs": True, "top_logprobs": 2}
    if streamed:
        stream = await writing.client.chat.completions.create(**options, stream=True)
        found = [c.choices[0].logprobs async for c in stream if c.choices and c.choices[0].delta.content]
        content = [token for logprobs in found if logprobs for token in logprobs.content or []]
    else:
        answer = await writing.client.chat.completions.create(**options)
        assert answer.choices[0].logprobs is not None
        content = answer.choices[0].logprobs.content or []
    assert "".join(token.token for token in content) == TEXT
    assert content[0].logprob == -0.5
    assert [other.logprob for other in content[0].top_logprobs] == [-0.5, -2.0]


async def test_completions_give_logprobs(writing: WritingSystem) -> None:
    answer = await writing.client.completions.create(model=writing.task, prompt="hello", logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == words_of("hello")
    assert logprobs.text_offset is not None
    assert logprobs.text_offset[:3] == [0, 6, 12]
    assert logprobs.top_logprobs is not None
    assert logprobs.top_logprobs[0] == {"hello ": -0.5}


@pytest.mark.parametrize(
    ("fields", "kind", "param"),
    [
        ({"model": "absent"}, openai.NotFoundError, None),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "tools"),
        ({"logit_bias": {"1": 5}}, openai.BadRequestError, "logit_bias"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, openai.BadRequestError, "messages"),
        ({"top_logprobs": 3}, openai.BadRequestError, "top_logprobs"),
        ({"temperature": 9}, openai.BadRequestError, "temperature"),
        ({"extra_body": {"tpot": 1}}, openai.BadRequestError, "tpot"),
        ({"messages": [{"role": "user", "content": "refuse this"}]}, openai.BadRequestError, None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            *(openai.BadRequestError, "messages"),
        ),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_chat_errors_have_openais_form(
    writing: WritingSystem, fields: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, streamed: bool
) -> None:
    asked: dict[str, Any] = {"model": writing.task, "messages": ASKED, "stream": streamed} | fields
    with pytest.raises(kind) as caught:
        await writing.client.chat.completions.create(**asked)
    assert caught.value.param == param


async def test_chat_stream_ends_with_error_if_answer_restarts(writing: WritingSystem) -> None:
    writing.writer.rewrite = lambda _writing, words: ["another ", *words[1:]]
    stream = await writing.client.chat.completions.create(model=writing.task, messages=ASKED, stream=True)
    with pytest.raises(openai.APIError, match="restarted"):
        async for _ in stream:
            pass


async def test_whole_answer_is_that_of_result_if_it_restarts(writing: WritingSystem) -> None:
    writing.writer.rewrite = lambda _writing, words: ["another ", *words[1:]]
    answer = await writing.client.chat.completions.create(model=writing.task, messages=ASKED)
    assert answer.choices[0].message.content == TEXT.replace("hello", "another", 1)


@pytest.mark.parametrize("streamed", [True, False])
async def test_disconnected_client_stops_writer(writing: WritingSystem, streamed: bool) -> None:
    """A client that leaves stops the computation at its next word, whether it wanted a stream or not."""
    await writing.client.completions.create(model=writing.task, prompt="connect the reply stream")
    words = writing.writer.by_turns()
    options: dict[str, Any] = {"model": writing.task, "prompt": "hello", "stream": streamed, "max_tokens": 1000}
    asking = asyncio.create_task(writing.client.completions.create(**options))
    await until(lambda: len(writing.writer.seen) == 2)
    made = writing.writer.seen[1]
    words.release()
    await until(lambda: made.by_stream > 0)
    if streamed:
        await (await asking).response.aclose()
    else:
        asking.cancel()
    await until(lambda: writing.query_client.in_flight == 0)
    words.release()
    await until(made.unwanted.is_set)
    assert made.written <= 3
