"""Fake of selector and worker: answers the queries of a task topic with `y = x[:, :2] * 2`.

It replaces the services at the wire protocol. The system tests run the gateway with the real services.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import uuid4

import numpy as np

from broker.delivery.consumer import Record
from broker.fetch.tail import Tail
from broker.kafka.settings import KafkaSettings
from broker.producing.producer import Producer
from schemas import headers as h
from schemas.errors import Overloaded, QueryError
from schemas.headers import RawHeaders, as_text
from schemas.oip import decode_request, encode_response
from schemas.result import error_value
from schemas.topics import offline_topic, task_topic
from tests.example_rows import INPUT
from workers.conversion import best_classes

VARIANT = "mlp.onnx-fp32.cpu"
Answer = Callable[[dict[str, str], bytes], tuple[bytes, dict[str, str]]]


def doubled(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the value and headers of the result."""
    length = fields.get(h.JSON_LENGTH)
    request = decode_request(value, int(length) if length else None, (INPUT,))
    outputs = {"y": (request.inputs["x"][:, :2] * 2).astype(np.float32)}
    for output in request.outputs:
        if output.classes and output.name in outputs:
            outputs[output.name] = best_classes(outputs[output.name], output.classes, (), "$")
    encoded = encode_response(
        fields.get(h.TARGET, "digits"),
        request.id,
        outputs,
        {"variant": VARIANT, "worker": "cpu-0", "accuracy": 0.9},
        wanted=request.outputs,
        binary=request.binary_output,
    )
    headers = {
        h.STATUS: "ok",
        h.VARIANT: VARIANT,
        h.WORKER: "cpu-0",
        h.TASK_QUEUE_NS: "1000",
        h.VARIANT_QUEUE_NS: "2000",
        h.COMPUTE_NS: "3000",
        h.PREDICTED_NS: "4000",
        h.ACCURACY: "0.9",
        h.COST: "0.001",
        h.CONTENT_TYPE: encoded.content_type,
    }
    if encoded.json_length is not None:
        headers[h.JSON_LENGTH] = str(encoded.json_length)
    return encoded.value, headers


def refuse_three(fields: dict[str, str], value: bytes) -> tuple[bytes, dict[str, str]]:
    """Refuse queries with three inputs, and answer all others."""
    if fields[h.BATCH] == "3":
        raise Overloaded("not now", retry_after_s=0.25)
    return doubled(fields, value)


class Responder:
    """Answers queries until its context ends.

    `seen` holds the headers of all queries, `topics` the topic of each.
    """

    def __init__(self, answer: Answer = doubled) -> None:
        self.answer = answer
        self.seen: list[dict[str, str]] = []
        self.topics: list[str] = []
        self.silent = False
        self.repeat = 1
        self._news = asyncio.Event()
        self._held: list[Record] = []
        self._producer: Producer | None = None

    async def wait_seen(self, count: int) -> None:
        """Wait until `count` queries have arrived."""
        while len(self.seen) < count:
            self._news.clear()
            await self._news.wait()

    async def run(self, tail: Tail, producer: Producer) -> None:
        self._producer = producer
        while True:
            for record in await tail.poll():
                await self._answer(record, producer)

    async def _answer(self, record: Record, producer: Producer) -> None:
        fields = as_text(record.headers)
        h.expand_choice(fields)
        self.seen.append(fields)
        self.topics.append(record.topic)
        self._news.set()
        if self.silent:
            self._held.append(record)
            return
        await self._reply(record, fields, producer)

    async def answer_late(self) -> None:
        """Answer the queries that were held while `silent` was set."""
        self.silent = False
        assert self._producer is not None
        for record in self._held:
            await self._reply(record, as_text(record.headers), self._producer)
        self._held.clear()

    async def _reply(self, record: Record, fields: dict[str, str], producer: Producer) -> None:
        try:
            value, headers = self.answer(fields, record.value or b"")
        except QueryError as error:
            value = error_value(str(error), error.reason)
            headers = {h.STATUS: error.code.value, h.CONTENT_TYPE: "application/json"}
            if error.reason is not None:
                headers[h.REASON] = error.reason.value
            if error.explanation is not None:
                headers[h.EXPLANATION] = json.dumps(error.explanation)
            if error.retry_after_s is not None:
                headers[h.RETRY_AFTER_MS] = str(round(error.retry_after_s * 1e3))
        own = {h.ID: fields[h.ID]} | {name: fields[name] for name in h.RETURNED if name in fields}
        raw: RawHeaders = [(name, text.encode()) for name, text in (headers | own).items()]
        for _ in range(self.repeat):
            await producer.send(fields[h.REPLY_TO], value, key=record.key, headers=raw)


@asynccontextmanager
async def answering(kafka: KafkaSettings, task: str, answer: Answer = doubled) -> AsyncGenerator[Responder]:
    """Run a responder on the topics of `task`, which must exist."""
    async with answering_at(kafka, [task_topic(task), offline_topic(task)], answer) as responder:
        yield responder


@asynccontextmanager
async def answering_at(kafka: KafkaSettings, topics: list[str], answer: Answer = doubled) -> AsyncGenerator[Responder]:
    """Run a responder on these topics."""
    responder, name = Responder(answer), f"responder-{uuid4().hex[:8]}"
    async with (
        Tail(kafka, name, topics) as tail,
        Producer(kafka, name) as producer,
        asyncio.TaskGroup() as tasks,
    ):
        running = tasks.create_task(responder.run(tail, producer), name=name)
        try:
            yield responder
        finally:
            running.cancel()
