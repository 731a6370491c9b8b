"""Records that tests read."""

import asyncio

from broker.delivery.consumer import Consumer, Record
from tests.waiting import PATIENCE_S


async def read(consumer: Consumer, count: int) -> list[Record]:
    """The next so many records, at least."""
    taken: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(taken) < count:
            taken += await consumer.poll()
    return taken
