"""Group member that tests run as a process: prints `up`, then `topic partition` at the first record of each.

With TEST_HOLDS set, it finishes no record and drains for a minute, so that a rebalance stays incomplete.
"""

import asyncio
import os
import sys

from broker.delivery import consumer as delivery
from broker.delivery.consumer import Consumer
from broker.kafka.settings import KafkaSettings


async def main(group: str, name: str, topics: list[str]) -> None:
    settings = KafkaSettings()
    holds = "TEST_HOLDS" in os.environ
    if holds:
        delivery.DRAIN_S = 60.0
    seen: set[tuple[str, int]] = set()
    async with Consumer(settings, f"test-{name}", group=group, instance_id=name) as consumer:
        await consumer.subscribe(topics)
        while True:
            for record in await consumer.poll():
                if not holds:
                    consumer.done(record)
                if (record.topic, record.partition) not in seen:
                    seen.add((record.topic, record.partition))
                    sys.stdout.write(f"{record.topic} {record.partition}\n")
                    sys.stdout.flush()


sys.stdout.write("up\n")
sys.stdout.flush()
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
