"""Helper of tests that read records."""

import asyncio

from broker.delivery.consumer import Consumer, Record
from tests.waiting import PATIENCE_S


async def read(consumer: Consumer, count: int) -> list[Record]:
    """Read at least `count` records."""
    taken: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            taken += await consumer.poll()
    return taken
