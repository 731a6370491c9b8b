"""Tests of answers in parts: over a reply stream and by topic, with a caller that stays, and with one that leaves."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple
from uuid import uuid4

import msgspec
import pytest

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from broker.replies.answer_stream import AnswerEvent, stream_answer
from broker.replies.request_reply import RequestReply
from broker.replies.sender import ReplyStreamSender
from schemas.generated_answer import AnswerRestart
from schemas.generation import AnswerPart
from schemas.headers import CORRELATION, ID, PART, REPLY_STREAM, STATUS, RawHeaders
from schemas.oip import encode_response
from schemas.result import OK, Result
from schemas.tensors import bytes_array
from tests.waiting import PATIENCE_S

WORDS = [f"word{number} " for number in range(20)]


class Author:
    """Worker that answers the queries of one topic word by word."""

    def __init__(self, kafka: KafkaSettings, producer: Producer, streams: ReplyStreamSender, asked: Tail) -> None:
        self._producer = producer
        self._streams = streams
        self._asked = asked
        self.kafka = kafka
        self.unwanted = asyncio.Event()
        self.by_stream = 0

    async def next_query(self) -> dict[str, bytes]:
        while not (records := await self._asked.poll()):
            pass
        return {name: value or b"" for name, value in records[0].headers}

    async def say(self, query: dict[str, bytes], attempt: str, number: int, text: str, reply_to: str) -> None:
        headers: RawHeaders = [(name, query[name]) for name in (ID, CORRELATION)]
        headers.append((PART, f"{attempt} {number}".encode()))
        value = msgspec.json.encode(AnswerPart(text=text, tokens=1))
        stream = query.get(REPLY_STREAM, b"").decode()
        if stream and self._streams.send_part(stream, headers, value, self.unwanted.set):
            self.by_stream += 1
        else:
            await self._producer.send_and_wait(reply_to, value, key=query[ID], headers=headers)

    async def finish(self, query: dict[str, bytes], text: str, reply_to: str) -> None:
        message = encode_response("v", "1", {"text_output": bytes_array([text])}, binary=False)
        headers = [*((name, query[name]) for name in (ID, CORRELATION)), (STATUS, OK.encode())]
        await self._producer.send_and_wait(reply_to, message.value, key=query[ID], headers=headers)


class Conversation(NamedTuple):
    """A worker, and a client that asks it on a topic."""

    author: Author
    requests: RequestReply
    topic: str

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[AnswerEvent]]:
        """Ask one query, and return the events of its answer."""
        return stream_answer(lambda on_part: self.requests.ask("1", self.topic, b"?", [(ID, b"1")], on_part=on_part))


@asynccontextmanager
async def writing(kafka: KafkaSettings, topic: str) -> AsyncGenerator[Author]:
    await ensure_topics(kafka, [TopicSpec(topic)])
    async with (
        Producer(kafka, f"worker-{uuid4()}") as producer,
        ReplyStreamSender(ReplyStreamSettings()) as streams,
        Tail(kafka, topic, [topic]) as asked,
    ):
        yield Author(kafka, producer, streams, asked)


@asynccontextmanager
async def asking(kafka: KafkaSettings, replies: KafkaSettings | None = None) -> AsyncGenerator[Conversation]:
    """Have a worker and a client that asks it; `replies` are other settings of the client."""
    topic = f"asked-{uuid4()}"
    async with (
        writing(kafka, topic) as author,
        RequestReply(replies or kafka, str(uuid4())) as requests,
        asyncio.timeout(PATIENCE_S),
    ):
        yield Conversation(author, requests, topic)


@pytest.mark.parametrize("by_stream", [True, False])
async def test_stream_answer_gives_each_part_once_in_order(kafka: KafkaSettings, by_stream: bool) -> None:
    settings = kafka.model_copy(update={"reply_stream": ReplyStreamSettings(enabled=by_stream)})
    async with asking(kafka, settings) as asked, asyncio.TaskGroup() as tasks:
        author, requests, _ = asked

        async def answer() -> None:
            query = await author.next_query()
            for number, word in enumerate(WORDS):
                await author.say(query, "a", number, word, requests.reply_topic)
                await author.say(query, "a", number, word, requests.reply_topic)  # a duplicate
            await author.finish(query, "".join(WORDS), requests.reply_topic)

        tasks.create_task(answer())
        async with asked.events() as events:
            seen = [event async for event in events]
        parts = [event for event in seen if isinstance(event, AnswerPart)]
        assert "".join(part.text for part in parts) == "".join(WORDS)
        assert isinstance(seen[-1], Result)
        assert not any(isinstance(event, AnswerRestart) for event in seen)
        assert requests.in_flight == 0


async def test_stream_answer_restarts_if_next_attempt_differs(kafka: KafkaSettings) -> None:
    async with asking(kafka) as asked, asked.events() as events:
        author, requests, _ = asked
        query = await author.next_query()
        await author.say(query, "a", 0, "one ", requests.reply_topic)
        assert await anext(events) == AnswerPart(text="one ", tokens=1)
        await author.say(query, "b", 0, "one ", requests.reply_topic)
        await author.say(query, "b", 1, "two", requests.reply_topic)
        assert await anext(events) == AnswerPart(text="two", tokens=1)
        await author.finish(query, "three", requests.reply_topic)
        rest: list[AnswerEvent] = [event async for event in events]
        assert rest[:-1] == [AnswerRestart(), AnswerPart(text="three", tokens=0)]


async def test_author_learns_at_once_that_caller_left(kafka: KafkaSettings) -> None:
    async with asking(kafka) as asked:
        author, requests, _ = asked
        async with asked.events() as events:
            query = await author.next_query()
            number = 0
            while not author.by_stream:  # the first parts may come before the connection
                await author.say(query, "a", number, "word ", requests.reply_topic)
                number += 1
            assert isinstance(await anext(events), AnswerPart)
            assert not author.unwanted.is_set()
        assert requests.in_flight == 0
        await author.say(query, "a", number, "word ", requests.reply_topic)
        await author.unwanted.wait()


async def test_author_that_writes_to_the_topic_learns_that_caller_left(kafka: KafkaSettings) -> None:
    """A part numbered below 0 goes over the stream: it adds no text, and is returned once the caller has left."""
    async with asking(kafka) as asked:
        author, requests, _ = asked
        async with asked.events() as events:
            query = await author.next_query()
            while not author.by_stream:  # until the stream is connected
                await author.say(query, "a", -1, "", requests.reply_topic)
            to_topic = {name: value for name, value in query.items() if name != REPLY_STREAM}
            await author.say(to_topic, "a", 0, "word ", requests.reply_topic)
            assert await anext(events) == AnswerPart(text="word ", tokens=1)
            assert not author.unwanted.is_set()
        await author.say(query, "a", -1, "", requests.reply_topic)
        await author.unwanted.wait()
