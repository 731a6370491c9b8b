"""Tests of answers in parts by the client library, over Kafka and through a gateway."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import ensure_task_topics
from gateway.model_directory import ModelDirectory
from gateway.service import open_gateway
from gateway.settings import GatewaySettings
from infaas.client import InfaasClient, InvalidRequest, SyncInfaasClient, TextPart
from infaas.client.client import SystemOptions
from process.sockets import free_port
from schemas import headers as h
from tests.generative_tasks import WRITER, Writer, catalog_of_writer, words_of, writing_answers
from tests.waiting import PATIENCE_S, until

NOWHERE = "postgresql://postgres@127.0.0.1:1/none"
TEXT = "".join(words_of("hello"))


class Site:
    """A generative task, with a gateway that can be closed and opened again."""

    def __init__(self, kafka: KafkaSettings, task: str, writer: Writer) -> None:
        self.kafka = kafka
        self.task = task
        self.writer = writer
        self.port = free_port()
        self.gateway = AsyncExitStack()

    async def open(self) -> None:
        settings = GatewaySettings(port=self.port).model_copy(update={"drain_timeout_s": 0.1})
        models = ModelDirectory(catalog_of_writer(self.task))
        await self.gateway.enter_async_context(open_gateway(settings, self.kafka, models, NOWHERE, asyncio.Event()))

    def system(self, way: str) -> SystemOptions:
        if way == "kafka":
            return {"kafka": self.kafka}
        return {"gateway": f"http://127.0.0.1:{self.port}"}


@pytest.fixture
async def site(kafka: KafkaSettings) -> AsyncGenerator[Site]:
    task = f"text-{uuid4().hex[:8]}"
    await ensure_task_topics(kafka, task, 1)
    async with writing_answers(kafka, task) as writer:
        made = Site(kafka, task, writer)
        await made.open()
        yield made
        await made.gateway.aclose()


@pytest.mark.parametrize("way", ["kafka", "http"])
async def test_stream_gives_parts_then_answer(site: Site, way: str) -> None:
    chat = [{"role": "user", "content": "hello"}]
    async with asyncio.timeout(PATIENCE_S), InfaasClient(**site.system(way)) as client:
        options: dict[str, Any] = {"parameters": {"temperature": 0.5, "logprobs": 0}, "ttft_ms": 500}
        for prompt in ("hello", chat):
            *parts, last = [part async for part in client.stream(site.task, prompt, **options)]
            assert "".join(part.text for part in parts) == TEXT
            assert sum(part.tokens for part in parts) == 8
            assert [one.token for part in parts for one in part.logprobs] == words_of("hello")
            assert last.answer is not None
            assert last.answer.outputs["text_output"].tolist() == [TEXT.encode()]
            assert last.answer.outputs["completion_tokens"].tolist() == [8]
            assert (last.answer.variant, last.answer.accuracy) == (WRITER, 0.9)
    first, second = site.writer.seen
    assert (first.fields[h.TTFT_MS], first.parameters["temperature"]) == ("500", 0.5)
    assert second.parameters["chat"] is True


@pytest.mark.parametrize("way", ["kafka", "http"])
async def test_stream_says_that_answer_restarts(site: Site, way: str) -> None:
    site.writer.rewrite = lambda _writing, words: ["another ", *words[1:]]
    async with asyncio.timeout(PATIENCE_S), InfaasClient(**site.system(way)) as client:
        parts = [part async for part in client.stream(site.task, "hello")]
    at = next(place for place, part in enumerate(parts) if part.restarted)
    assert "".join(part.text for part in parts[at:]) == TEXT.replace("hello", "another", 1)


@pytest.mark.parametrize("way", ["kafka", "http"])
async def test_stream_raises_error_of_query(site: Site, way: str) -> None:
    async with asyncio.timeout(PATIENCE_S), InfaasClient(**site.system(way)) as client:
        with pytest.raises(InvalidRequest, match="5000 tokens"):
            async for _ in client.stream(site.task, "refuse this"):
                pass
        with pytest.raises(InvalidRequest, match="one message"):
            await anext(client.stream(site.task, []))


@pytest.mark.parametrize("way", ["kafka", "http"])
async def test_closed_stream_stops_writer(site: Site, way: str) -> None:
    async with asyncio.timeout(PATIENCE_S), InfaasClient(**site.system(way)) as client:
        assert [part async for part in client.stream(site.task, "connect the reply stream")]
        words = site.writer.by_turns()
        stream = client.stream(site.task, "hello")
        words.release()
        assert isinstance(await anext(stream), TextPart)
        await stream.aclose()
        made = site.writer.seen[-1]
        words.release()
        await until(lambda: made.unwanted.is_set() or made.written > 1)
        words.release()
        await until(made.unwanted.is_set)


@pytest.mark.needs_minutes
async def test_stream_continues_after_gateway_is_lost(site: Site) -> None:
    """The query is asked again with its id; the words that came already do not come again."""
    words = site.writer.by_turns()
    for _ in range(3):
        words.release()
    async with asyncio.timeout(PATIENCE_S), InfaasClient(**site.system("http")) as client:
        stream, text = client.stream(site.task, "hello"), ""
        while text != "".join(words_of("hello", 3)):
            text += (await anext(stream)).text
        await site.gateway.aclose()
        await site.open()
        for _ in range(20):
            words.release()
        rest = [part async for part in stream]
    assert text + "".join(part.text for part in rest) == TEXT
    assert not any(part.restarted for part in rest)
    first, second = (made.fields[h.ID] for made in site.writer.seen)
    assert first == second


def read_synchronously(system: SystemOptions, task: str) -> str:
    with SyncInfaasClient(**system) as client:
        first = client.stream(task, "hello")
        assert next(first).text
        first.close()
        return "".join(part.text for part in client.stream(task, "hello"))


@pytest.mark.parametrize("way", ["kafka", "http"])
async def test_synchronous_client_streams(site: Site, way: str) -> None:
    assert await asyncio.to_thread(read_synchronously, site.system(way), site.task) == TEXT
