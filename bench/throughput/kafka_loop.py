"""Bare program beside a worker with an offline load: aiokafka, numpy, orjson, and a thread that computes.

Like a worker, it reads the next batch and answers the previous one while a batch is computed. It makes no decisions, no
commits and no refusals. So its gap to the bare session is the unavoidable cost of this path in one process.
"""

import asyncio
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from numpy.typing import NDArray

from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from broker.producing.producer import Producer
from runtimes.protocol import Session
from schemas import headers as h
from schemas.oip import encode_request
from workers.service import SWITCH_S


async def fill(kafka: KafkaSettings, topic: str, images: NDArray[Any], count: int) -> None:
    """Write `count` offline queries of one image each."""
    encoded = encode_request({"input": images[:1]})
    headers = [(h.MODE, b"offline"), (h.JSON_LENGTH, str(encoded.json_length).encode())]
    async with Producer(kafka, "bench") as producer:
        await producer.prefetch_metadata([topic])  # limits sends to unknown topics
        for _ in range(count):
            query_id = uuid.uuid4().hex.encode()
            await producer.send(topic, encoded.value, key=query_id, headers=[(h.ID, query_id), *headers])


async def loop_rate(kafka: KafkaSettings, session: Session, images: NDArray[Any], batch: int, count: int) -> float:
    """Return the samples per second of `count` queries of one image, between a tenth and nine tenths of them."""
    source, target = (f"bench-loop-{uuid.uuid4().hex[:8]}-{end}" for end in ("in", "out"))
    await ensure_topics(kafka, [TopicSpec(source), TopicSpec(target)])
    await fill(kafka, source, images, count)
    consumer = AIOKafkaConsumer(source, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all")
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)  # as in a worker: Python's default is slower
    try:
        with ThreadPoolExecutor(1) as slot:
            async with consumer, producer:
                return await _answer(consumer, producer, target, slot, session, batch, count)
    finally:
        sys.setswitchinterval(before_s)


async def _answer(
    consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, target: str, slot: ThreadPoolExecutor, session: Session,
    batch: int, count: int,
) -> float:  # fmt: skip
    loop, answered = asyncio.get_running_loop(), 0
    marks: dict[int, tuple[float, int]] = {}
    records: list[Any] = []
    computing: asyncio.Future[dict[str, NDArray[Any]]] | None = None
    while answered < count:
        fetched = await consumer.getmany(timeout_ms=0 if computing else 1000, max_records=batch)
        read = [record for found in fetched.values() for record in found]
        inputs = np.stack([_image(record) for record in read]) if read else None
        outputs, done = (await computing if computing else None), records
        computing = loop.run_in_executor(slot, session.infer, {"input": inputs}) if inputs is not None else None
        records = read
        if outputs is None:
            continue
        for record, row in zip(done, outputs["logits"], strict=True):
            await producer.send(target, _answer_of(row), key=record.key, headers=[*record.headers])
        answered += len(done)
        for tenths in (1, 9):
            if answered >= count * tenths // 10:
                marks.setdefault(tenths, (time.perf_counter(), answered))
    (began_s, first), (ended_s, last) = marks[1], marks[9]
    return (last - first) / (ended_s - began_s)


def _image(record: Any) -> NDArray[Any]:
    length = int(dict(record.headers)[h.JSON_LENGTH])
    shape = orjson.loads(record.value[:length])["inputs"][0]["shape"]
    return np.frombuffer(record.value, np.float32, offset=length).reshape(shape[1:])


def _answer_of(row: NDArray[Any]) -> bytes:
    output = {"name": "logits", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    return orjson.dumps({"outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)
