"""Tests of `/generate` and `/generate_stream`, the generate extension of the Open Inference Protocol."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import aiohttp
import pytest

from schemas import headers as h
from schemas.defaults import ANSWER_TIMEOUT_S
from tests.generative_tasks import WRITER, Writing, words_of
from tests.integration.gateway.conftest import WritingSystem
from tests.waiting import PATIENCE_S, until

TEXT = "".join(words_of("hello"))


class OwnClock:
    """Event loop for the timers of a gateway's queries; time passes only when the test says so."""

    def __init__(self, writing: WritingSystem) -> None:
        self.create_future = asyncio.get_running_loop().create_future
        self._requests = writing.query_client._requests  # pyright: ignore[reportPrivateUsage]
        self._requests._loop = cast(Any, self)  # pyright: ignore[reportPrivateUsage]
        self._now_s = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, run: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(self._now_s + delay_s, run, args, asyncio.get_running_loop())
        self._timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        """Run the timers that are due within these seconds."""
        self._now_s += seconds
        for timer in [one for one in self._timers if one.when() <= self._now_s]:
            self._timers.remove(timer)
            if not timer.cancelled():
                timer._run()

    def has_heard(self) -> bool:
        """Return true if no time has passed since the last part of each query, or since its beginning."""
        listeners = self._requests._listeners.values()  # pyright: ignore[reportPrivateUsage]
        return all(listener.heard_s == self._now_s for listener in listeners)

    async def pace(self, _writing: Writing) -> None:
        """Let most of the time until a query is given up pass between two words."""
        await until(self.has_heard)
        self.pass_time(0.8 * ANSWER_TIMEOUT_S)


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
    writing.writer.pace = OwnClock(writing).pace
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    async with asyncio.timeout(PATIENCE_S), writing.http.post(url, json={"text_input": "hello"}) as response:
        *parts, _end = await events_of(response)
    assert "".join(part["text_output"] for part in parts) == TEXT


async def test_generate_stream_of_silent_writer_times_out(writing: WritingSystem) -> None:
    clock = OwnClock(writing)
    writing.writer.by_turns()
    url = f"{writing.url}/v2/models/{writing.task}/generate_stream"
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(status_of(writing.http.post(url, json={"text_input": "hello"})))
        await until(lambda: bool(writing.writer.seen))
        clock.pass_time(ANSWER_TIMEOUT_S)
    assert asking.result() == 504
    await until(lambda: writing.query_client.in_flight == 0)


async def status_of(asking: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> int:
    async with asking as response:
        return response.status


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


@pytest.mark.parametrize("prompts", [["hello"], ["hello", "other"]])
async def test_infer_waits_as_long_as_parts_come(writing: WritingSystem, prompts: list[str]) -> None:
    writing.writer.pace = OwnClock(writing).pace
    url = f"{writing.url}/v2/models/{writing.task}/infer"
    texts = {"name": "text_input", "datatype": "BYTES", "shape": [len(prompts)], "data": prompts}
    async with asyncio.timeout(PATIENCE_S), writing.http.post(url, json={"inputs": [texts]}) as response:
        outputs = {output["name"]: output["data"] for output in (await response.json())["outputs"]}
    assert outputs["text_output"] == ["".join(words_of(prompt)) for prompt in prompts]
    assert writing.writer.seen[0].fields[h.STREAM] == "true"
