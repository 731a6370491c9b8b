"""Tests of `/generate` and `/generate_stream`, the generate extension of the Open Inference Protocol."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from schemas import headers as h
from tests.generative_tasks import WRITER, Writing, words_of
from tests.integration.gateway.conftest import WritingSystem
from tests.waiting import PATIENCE_S, until

TEXT = "".join(words_of("hello"))


def give_up_after(writing: WritingSystem, seconds: float) -> None:
    """Shorten the time that the gateway waits for the result of a query without a deadline."""
    client = writing.query_client
    client._settings = client._settings.model_copy(update={"wait_s": seconds})  # pyright: ignore[reportPrivateUsage]


async def events_of(response: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    assert response.content_type == "text/event-stream"
    lines = (await response.text()).split("\n\n")
    assert lines.pop() == ""
    return [json.loads(line.removeprefix("data: ")) for line in lines]


async def test_generate_answers_whole(writing: WritingSystem) -> None:
    asked = {"id": "7", "text_input": "hello", "parameters": {"temperature": 0, "stop": ["x"], "stream": False}}
    async with writing.http.post(f"{writing.url}/v2/models/{writing.task}/generate", json=asked) as response:
        answer = await response.json()
        assert response.headers[h.VARIANT] == WRITER
    assert (answer["text_output"], answer["finish_reason"], answer["completion_tokens"]) == (TEXT, "length", 8)
    assert (answer["id"], answer["model_name"]) == ("7", WRITER)
    assert writing.writer.seen[0].parameters == {"temperature": 0, "stop": '["x"]'}


@pytest.mark.parametrize("path", ["{}", "writer/versions/1"])
async def test_generate_stream_sends_parts_then_end(writing: WritingSystem, path: str) -> None:
    url = f"{writing.url}/v2/models/{path.format(writing.task)}/generate_stream?ttft_ms=500"
    async with writing.http.post(url, json={"text_input": "hello", "max_tokens": 3}) as response:
        *parts, end = await events_of(response)
    assert "".join(part["text_output"] for part in parts) == "".join(words_of("hello", 3))
    assert sum(part["tokens"] for part in parts) == 3
    assert (end["text_output"], end["completion_tokens"], end["parameters"][h.VARIANT]) == ("", 3, WRITER)
    (seen,) = writing.writer.seen
    assert (seen.fields[h.TTFT_MS], seen.fields[h.MAX_TOKENS]) == ("500", "3")


@pytest.mark.parametrize("takes_back", [True, False])
async def test_generate_stream_says_that_answer_restarts(writing: WritingSystem, takes_back: bool) -> None:
    writing.writer.rewrite = lambda _writing, words: ["another ", *words[1:]]
    headers = {h.STREAM: "true"} if takes_back else {}
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    async with writing.http.post(url, json={"text_input": "hello"}, headers=headers) as response:
        events = await events_of(response)
    if takes_back:
        at = next(place for place, event in enumerate(events) if "restarted" in event)
        assert "".join(event["text_output"] for event in events[at + 1 :]) == TEXT.replace("hello", "another", 1)
    else:
        assert events[-1]["reason"] == "restarted"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "hello"}, "text_input"),
        ({"text_input": 3}, "text_input"),
        ({"text_input": "hello", "parameters": []}, "parameters"),
        ({"text_input": "hello", "tpot": 3}, "did you mean tpot_ms"),
        ({"text_input": "refuse this"}, "5000 tokens"),
        ([], "JSON object"),
    ],
)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
async def test_generate_refuses_bad_requests(writing: WritingSystem, body: Any, words: str, path: str) -> None:
    async with writing.http.post(f"{writing.url}/v2/models/{writing.task}/{path}", json=body) as response:
        assert response.status == 400
        assert words in (await response.json())["error"]


async def test_generate_stream_waits_as_long_as_parts_come(writing: WritingSystem) -> None:
    """A long answer is not given up while it grows, also by queries without a deadline."""
    give_up_after(writing, 0.5)

    async def pace(_writing: Writing) -> None:
        await asyncio.sleep(0.2)

    writing.writer.pace = pace
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    async with asyncio.timeout(PATIENCE_S), writing.http.post(url, json={"text_input": "hello"}) as response:
        *parts, _end = await events_of(response)
    assert "".join(part["text_output"] for part in parts) == TEXT


async def test_generate_stream_of_silent_writer_times_out(writing: WritingSystem) -> None:
    give_up_after(writing, 0.5)
    writing.writer.pace = lambda _writing: asyncio.Event().wait()  # pyright: ignore[reportAttributeAccessIssue]
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    async with asyncio.timeout(PATIENCE_S), writing.http.post(url, json={"text_input": "hello"}) as response:
        assert response.status == 504
    await until(lambda: writing.query_client.in_flight == 0)


async def test_slow_reader_holds_up_no_other(writing: WritingSystem) -> None:
    """Text that a client does not read is joined, so neither the writer nor another client waits for it."""
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    reader, sender = await asyncio.open_connection(*writing.url.removeprefix("http://").split(":"), limit=1024)
    body = json.dumps({"text_input": "hello", "max_tokens": 20_000})
    path = url.removeprefix(writing.url)
    sender.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    async with asyncio.timeout(PATIENCE_S):
        await until(lambda: bool(writing.writer.seen) and writing.writer.seen[0].written == 20_000)
        async with writing.http.post(url, json={"text_input": "hello"}) as response:
            assert len(await events_of(response)) >= 2
        found = b""
        while b"finish_reason" not in found:
            found += await reader.read(1 << 20)
    sender.close()
    assert b"word19999 " in found


async def test_infer_waits_as_long_as_parts_come(writing: WritingSystem) -> None:
    give_up_after(writing, 0.5)

    async def pace(_writing: Writing) -> None:
        await asyncio.sleep(0.2)

    writing.writer.pace = pace
    url = f"{writing.url}/v2/models/{writing.task}/infer"
    texts = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["hello"]}
    async with asyncio.timeout(PATIENCE_S), writing.http.post(url, json={"inputs": [texts]}) as response:
        outputs = {output["name"]: output["data"] for output in (await response.json())["outputs"]}
    assert outputs["text_output"] == [TEXT]
    assert writing.writer.seen[0].fields[h.STREAM] == "true"
