"""A generative task whose worker writes words at the pace of its test, in the protocol of real workers."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np

from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings, ReplyStreamSettings
from broker.kafka.types import KafkaError
from broker.producing.producer import Producer
from broker.replies.sender import ReplyStreamSender
from schemas import headers as h
from schemas.catalog import Catalog
from schemas.errors import InvalidRequest, QueryError
from schemas.generated_answer import LOGPROBS_OUTPUT
from schemas.generation import INPUTS, OUTPUTS, TEXT_INPUT, AnswerPart, TokenLogprob
from schemas.headers import RawHeaders, as_text
from schemas.oip import decode_request, encode_response
from schemas.result import error_value
from schemas.rows.catalog import Task
from schemas.tensors import bytes_array
from schemas.topics import offline_topic, task_topic
from tests.example_rows import a_profile, a_variant, an_architecture

WRITER = "writer.llama-q4.cpu"
MODEL = "writer"


def catalog_of_writer(task: str) -> Catalog:
    """Return a catalog with a generative task of one variant."""
    return Catalog(
        tasks={task: Task(name=task, inputs=INPUTS, outputs=OUTPUTS, partitions=1, measure="contains")},
        architectures={MODEL: an_architecture(MODEL, task)},
        variants={WRITER: a_variant(WRITER, task)},
        profiles={WRITER: a_profile(WRITER)},
    )


def words_of(prompt: str, count: int = 8) -> list[str]:
    """Return the answer to a prompt, word by word."""
    return [f"{prompt[:20]} "] + [f"word{number} " for number in range(1, count)]


class Writing:
    """Answer that a writer makes."""

    def __init__(self, request_id: str, prompts: list[str], parameters: dict[str, Any], fields: dict[str, str]) -> None:
        self.request_id = request_id
        self.prompts = prompts
        self.parameters = parameters
        self.fields = fields
        self.binary = False
        self.unwanted = asyncio.Event()
        self.by_stream = 0
        self.written = 0


class Writer:
    """Worker that answers the queries of a task until its context ends; `pace` is awaited before each word."""

    def __init__(self, producer: Producer, streams: ReplyStreamSender, tasks: asyncio.TaskGroup) -> None:
        self._producer = producer
        self._streams = streams
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self.seen: list[Writing] = []
        self.pace: Callable[[Writing], Awaitable[None]] = _at_once
        self.rewrite: Callable[[Writing, list[str]], list[str]] = _as_they_are
        """Words of the result, which may differ from the parts."""

    def by_turns(self) -> asyncio.Semaphore:
        """Have each word from now on wait for a release of the returned semaphore."""
        words = asyncio.Semaphore(0)

        async def pace(_writing: Writing) -> None:
            await words.acquire()

        self.pace = pace
        return words

    async def run(self, tail: Tail) -> None:
        while True:
            for record in await tail.poll():
                answer = self._tasks.create_task(self._answer(as_text(record.headers), record.value or b""))
                self._running.add(answer)
                answer.add_done_callback(self._running.discard)

    def stop(self) -> None:
        """Give up all answers that are being made."""
        for answer in list(self._running):
            answer.cancel()

    async def _answer(self, fields: dict[str, str], value: bytes) -> None:
        length = fields.get(h.JSON_LENGTH)
        request = decode_request(value, int(length) if length else None, INPUTS)
        prompts = [text.decode() for text in request.inputs[TEXT_INPUT].reshape(-1).tolist()]
        writing = Writing(request.id, prompts, dict(request.parameters), fields)
        writing.binary = request.binary_output
        self.seen.append(writing)
        try:
            await self._write(writing)
        except KafkaError:  # the topic was deleted, as its reader has ended
            return
        except QueryError as error:
            await self._send(writing, error_value(str(error)), {h.STATUS: error.code.value})

    async def _write(self, writing: Writing) -> None:
        prompt = writing.prompts[0]
        if "refuse" in prompt:
            raise InvalidRequest("the prompt has 5000 tokens, but this model takes at most 2048")
        if writing.parameters.get("chat"):
            prompt = json.loads(prompt)[-1]["content"]
        count = int(writing.fields.get(h.MAX_TOKENS, "8"))
        words = words_of(prompt, count)
        if writing.fields.get(h.STREAM) == "true":
            for number, word in enumerate(words):
                await self.pace(writing)
                if writing.unwanted.is_set():
                    return
                await self._part(writing, number, word)
                writing.written += 1
        words = self.rewrite(writing, words)
        texts = ["".join(words), *("".join(words_of(other, count)) for other in writing.prompts[1:])]
        await self._finish(writing, texts, count, words)

    async def _part(self, writing: Writing, number: int, word: str) -> None:
        fields = writing.fields
        value = msgspec.json.encode(AnswerPart(text=word, tokens=1, logprobs=_logprobs(writing, [word])))
        headers: RawHeaders = [(name, fields[name].encode()) for name in (h.ID, h.CORRELATION) if name in fields]
        headers.append((h.PART, f"a{len(self.seen)} {number}".encode()))
        stream = fields.get(h.REPLY_STREAM, "")
        if stream and self._streams.send_part(stream, headers, value, writing.unwanted.set):
            writing.by_stream += 1
        else:
            await self._producer.send_and_wait(fields[h.REPLY_TO], value, key=b"k", headers=headers)

    async def _finish(self, writing: Writing, texts: list[str], tokens: int, words: list[str]) -> None:
        rows = len(texts)
        outputs = {
            "text_output": bytes_array(texts),
            "finish_reason": bytes_array(["length"] * rows),
            "prompt_tokens": np.full(rows, 5, np.int32),
            "completion_tokens": np.full(rows, tokens, np.int32),
            "mean_logprob": np.full(rows, -0.5, np.float32),
        }
        if logprobs := _logprobs(writing, words):
            outputs[LOGPROBS_OUTPUT] = bytes_array([msgspec.json.encode(logprobs)] * rows)
        message = encode_response(WRITER, writing.request_id, outputs, binary=writing.binary)
        headers = {h.STATUS: "ok", h.VARIANT: WRITER, h.WORKER: "cpu-0", h.ACCURACY: "0.9", h.COST: "0.001"}
        headers |= {h.CONTENT_TYPE: message.content_type}
        if message.json_length is not None:
            headers[h.JSON_LENGTH] = str(message.json_length)
        await self._send(writing, message.value, headers)

    async def _send(self, writing: Writing, value: bytes, headers: dict[str, str]) -> None:
        own = {name: writing.fields[name] for name in (h.ID, *h.RETURNED) if name in writing.fields}
        raw: RawHeaders = [(name, text.encode()) for name, text in (headers | own).items()]
        await self._producer.send_and_wait(writing.fields[h.REPLY_TO], value, key=b"k", headers=raw)


def _logprobs(writing: Writing, words: list[str]) -> list[TokenLogprob]:
    if "logprobs" not in writing.parameters:
        return []
    count = int(writing.parameters["logprobs"])
    return [TokenLogprob(token=word, logprob=-0.5, top=[(word, -0.5), ("other ", -2.0)][:count]) for word in words]


async def _at_once(_writing: Writing) -> None:
    """Write the next word at once."""


def _as_they_are(_writing: Writing, words: list[str]) -> list[str]:
    return words


@asynccontextmanager
async def writing_answers(kafka: KafkaSettings, task: str) -> AsyncGenerator[Writer]:
    """Run a writer on the topics of `task`, which must exist."""
    name = f"writer-{uuid4().hex[:8]}"
    async with (
        Tail(kafka, name, [task_topic(task), offline_topic(task)]) as tail,
        Producer(kafka, name) as producer,
        ReplyStreamSender(ReplyStreamSettings()) as streams,
        asyncio.TaskGroup() as tasks,
    ):
        writer = Writer(producer, streams, tasks)
        running = tasks.create_task(writer.run(tail))
        try:
            yield writer
        finally:
            running.cancel()
            writer.stop()
