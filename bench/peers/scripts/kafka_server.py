"""Bare server over Kafka, the simplest program with our structure: HTTP in front, one topic of queries, one of replies.

The first process starts Apache Kafka and serves HTTP. Each worker is a process of its own with a partition of its own.
It has no selection and no deadlines, and loses the queries that a failing worker has fetched.
"""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.peers.scripts.onnx_model import OnnxModel, PeerSettings
from broker.kafka.servers.apache import ApacheKafka
from broker.kafka.topics import TopicSpec, ensure_topics
from process.subprocesses import running

_QUERIES: Final = "bare.queries"
_REPLIES: Final = "bare.replies"
_ANSWER_S: Final = 10.0


async def serve(settings: PeerSettings, folder: Path) -> None:
    """Start the broker and the workers, and answer over HTTP until killed."""
    async with ApacheKafka(folder / "kafka") as kafka, AsyncExitStack() as stack:
        await ensure_topics(kafka.settings, [TopicSpec(_QUERIES, settings.workers), TopicSpec(_REPLIES)])
        for number in range(settings.workers):
            command = [sys.executable, "-m", "bench.peers.scripts.kafka_server", kafka.bootstrap, str(number)]
            await stack.enter_async_context(running(command, folder / f"worker-{number}.log", env=dict(os.environ)))
        await _answer(settings, kafka.bootstrap)


async def _answer(settings: PeerSettings, bootstrap: str) -> None:
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    loop, asked = asyncio.get_running_loop(), 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        key = b"%d" % asked
        waiting[key] = answer = loop.create_future()
        try:
            await producer.send(_QUERIES, await request.read(), key=key, partition=asked % settings.workers)
            async with asyncio.timeout(_ANSWER_S):
                return web.Response(body=await answer)
        finally:
            del waiting[key]

    app = web.Application()
    app.add_routes([web.post("/", handle)])
    runner = web.AppRunner(app, access_log=None)
    async with _producer(bootstrap) as producer, AIOKafkaConsumer(bootstrap_servers=bootstrap) as replies:
        replies.assign([TopicPartition(_REPLIES, 0)])
        await replies.seek_to_end()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", settings.port).start()
        async for record in replies:
            answer = waiting.get(record.key or b"")
            if answer is not None and not answer.done():
                answer.set_result(record.value or b"")


async def work(settings: PeerSettings, bootstrap: str, number: int) -> None:
    """Compute the queries of one partition, in batches of up to the maximum, until killed."""
    model, loop = OnnxModel(settings), asyncio.get_running_loop()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, group_id="bare", auto_commit_interval_ms=200, auto_offset_reset="earliest"
    )
    async with _producer(bootstrap) as producer, consumer:
        consumer.assign([TopicPartition(_QUERIES, number)])
        while True:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=settings.max_batch)
            for records in fetched.values():
                answers = await loop.run_in_executor(
                    None, model.answer_all, [record.value or b"" for record in records]
                )
                for record, answer in zip(records, answers, strict=True):
                    await producer.send(_REPLIES, answer, key=record.key)


def _producer(bootstrap: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")


def main() -> None:
    """Serve HTTP, or, given the broker's address and a number, run as the worker of that number."""
    settings = PeerSettings()
    if len(sys.argv) > 1:
        uvloop.run(work(settings, sys.argv[1], int(sys.argv[2])))
    else:
        uvloop.run(serve(settings, Path.cwd()))


if __name__ == "__main__":
    main()
