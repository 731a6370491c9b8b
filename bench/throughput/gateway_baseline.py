"""Baseline of the gateway, and the responder behind both, each a process.

`python -m bench.throughput.gateway_baseline serve TOPIC PORT`: a bare aiohttp handler that produces the body and awaits
its reply.
`python -m bench.throughput.gateway_baseline answer TOPIC`: answers every query of the topic with one fixed result.
"""

import argparse
import asyncio
import itertools
import uuid

import uvloop
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.load.pace import small_query
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from process.sockets import LOOPBACK
from schemas import headers as h
from schemas.oip import decode_request, encode_response
from schemas.topics import REPLIES

PARTITIONS = 4


async def _producer(kafka: KafkaSettings) -> AIOKafkaProducer:
    idempotent = (await broker_features(kafka)).idempotence
    return AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=idempotent)


def _consumer(kafka: KafkaSettings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=None, fetch_max_wait_ms=kafka.fetch_max_wait_ms)


async def serve(kafka: KafkaSettings, topic: str, port: int) -> None:
    """Serve POST on any path until cancelled."""
    replies = f"{REPLIES}bare-{uuid.uuid4().hex[:8]}"
    await ensure_topics(kafka, [TopicSpec(replies)])
    waiting: dict[bytes, asyncio.Future[bytes]] = {}
    numbers = itertools.count()
    loop = asyncio.get_running_loop()
    async with await _producer(kafka) as producer, _consumer(kafka) as consumer:
        consumer.assign([TopicPartition(replies, 0)])
        await consumer.seek_to_end()

        async def handle(request: web.Request) -> web.Response:
            body = await request.read()
            query_id = str(next(numbers)).encode()
            reply = waiting[query_id] = loop.create_future()
            headers = [(h.ID, query_id), (h.REPLY_TO, replies.encode())]
            await producer.send(topic, body, key=query_id, headers=headers)
            return web.Response(body=await reply)

        app = web.Application()
        app.add_routes([web.post("/{path:.*}", handle)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
        print("ready", flush=True)
        async for record in consumer:
            waiting.pop(dict(record.headers)[h.ID]).set_result(record.value or b"")


async def answer(kafka: KafkaSettings, topic: str) -> None:
    """Answer every new query until cancelled."""
    value, fixed = _result()
    async with await _producer(kafka) as producer, _consumer(kafka) as consumer:
        consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
        await consumer.seek_to_end()
        print("ready", flush=True)
        async for record in consumer:
            fields = dict(record.headers)
            returned = [(name, fields[name]) for name in h.RETURNED if name in fields]
            headers = [(h.ID, fields[h.ID]), *fixed, *returned]
            await producer.send(fields[h.REPLY_TO].decode(), value, key=record.key, headers=headers)


def _result() -> tuple[bytes, list[tuple[str, bytes]]]:
    """Make a worker's answer to the small query."""
    query, headers = small_query()
    inputs = decode_request(query, int(dict(headers)[h.JSON_LENGTH])).inputs
    encoded = encode_response(
        "bench", "", {name: array[:, :10] for name, array in inputs.items()}, {"variant": "a.b.c"}, binary=True
    )
    return encoded.value, [
        (h.STATUS, b"ok"),
        (h.VARIANT, b"bench.onnx-fp32.cpu"),
        (h.WORKER, b"cpu-0"),
        (h.TASK_QUEUE_NS, b"100000"),
        (h.VARIANT_QUEUE_NS, b"100000"),
        (h.COMPUTE_NS, b"100000"),
        (h.PREDICTED_NS, b"400000"),
        (h.ACCURACY, b"0.9"),
        (h.COST, b"0.001"),
        (h.CONTENT_TYPE, encoded.content_type.encode()),
        (h.JSON_LENGTH, str(encoded.json_length).encode()),
    ]


def main() -> None:
    """Parse the command line and run until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("serve", "answer"))
    parser.add_argument("topic")
    parser.add_argument("port", type=int, nargs="?", default=0)
    wanted = parser.parse_args()
    kafka = KafkaSettings()
    if wanted.what == "serve":
        uvloop.run(serve(kafka, wanted.topic, wanted.port))
    else:
        uvloop.run(answer(kafka, wanted.topic))


if __name__ == "__main__":
    main()
