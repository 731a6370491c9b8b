"""Moves queries that wait for a removed variant back to their task, where a selector chooses another variant.

The queries keep their ids, needs and deadlines. If the task is removed as well, a selector answers them with a refusal.
Copies of queries for a shadow version are dropped with the variant: nobody waits for their answers.
"""

import asyncio
from typing import Final

from broker.delivery.consumer import Consumer, Record
from broker.lag.reader import LagReader
from broker.producer import Producer
from broker.settings import KafkaSettings
from schemas import headers as h
from schemas.topics import SHADOWS, is_offline, query_topic, variant_group, variant_topics

_CLIENT: Final = "infaas-unregister"
_LEFT_OUT: Final = frozenset({h.SENT_NS, h.LINGER_NS})
"""Headers that are dropped. Without a time of sending, the deadline counts by the broker's clock, as the selector wrote
it."""


async def move_leftovers(kafka: KafkaSettings, variant: str, task: str) -> int:
    """Send the queries that wait for a closed variant to the topics of its task; return their number.

    Raises:
        KafkaError: a request to Kafka failed; queries that were moved and not committed are moved again.
    """
    moved, group, topics = 0, variant_group(variant), list(variant_topics(variant))
    async with LagReader(kafka) as reader:
        reading = await reader.read_until_known({group: topics})
    async with Producer(kafka, _CLIENT) as producer:
        for topic in topics:
            ends = {line.partition: line.end for line in reading.partition_lags() if line.topic == topic and line.lag}
            if not ends:
                continue
            target = query_topic(task, offline=is_offline(topic))
            async with Consumer(kafka, _CLIENT, group=group) as consumer:
                await consumer.assign(topic, ends)
                while any((consumer.position(number) or 0) < (end or 0) for number, end in ends.items()):
                    async with asyncio.timeout(kafka.request_timeout_ms / 1000):
                        records = await consumer.poll()
                    queries = [record for record in records if (h.REPLY_TO, SHADOWS.encode()) not in record.headers]
                    await _send(producer, target, queries)
                    for record in records:
                        consumer.done(record)
                    moved += len(queries)
    return moved


async def _send(producer: Producer, topic: str, records: list[Record]) -> None:
    sends = [
        await producer.send(
            topic,
            record.value,
            key=record.key,
            headers=[(name, value or b"") for name, value in record.headers if name not in _LEFT_OUT],
        )
        for record in records
    ]
    await asyncio.gather(*sends)
