"""Baseline: a bare aiokafka loop that moves each record from one topic to the next.

`python -m bench.core.baseline` runs it.

Its delivery guarantees equal ours: a producer with acks=all, idempotent if the broker supports it, and a commit each
200 ms.
"""

import argparse
import asyncio
import signal

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings


async def forward(kafka: KafkaSettings, source: str, target: str) -> None:
    """Consume `source` and produce to `target` (or, if empty, to each record's reply topic) until cancelled."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=kafka.bootstrap,
        group_id=f"bare.{source}",
        enable_auto_commit=True,
        auto_commit_interval_ms=200,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
    )
    idempotent = (await broker_features(kafka)).idempotence
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", enable_idempotence=idempotent)
    async with consumer, producer:
        print("ready", flush=True)
        async for record in consumer:
            topic = target or dict(record.headers)["infaas-reply-to"].decode()
            await producer.send(topic, record.value, key=record.key, headers=list(record.headers))


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source")
    parser.add_argument("target", nargs="?", default="")
    wanted = parser.parse_args()
    forwarding = asyncio.current_task()
    assert forwarding is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, forwarding.cancel)
    try:
        await forward(KafkaSettings(), wanted.source, wanted.target)
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    uvloop.run(_main())
