"""Drains the topics that selectors read: closes them and waits until all their queries are answered."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from broker.closed_topics import close_topics
from broker.lag.reader import LagReader
from broker.settings import KafkaSettings
from broker.topics import partitions_of
from schemas.errors import OperatorError
from schemas.topics import OFFLINE_SELECTOR_GROUP, SELECTOR_GROUP, offline_of

_LOOK_S: Final = 0.2


async def drain_topics(kafka: KafkaSettings, online: str, timeout_s: float) -> tuple[str, str]:
    """Close a topic of online queries and its offline topic, and wait until all queries in them are answered.

    Returns:
        Both topics.

    Raises:
        KafkaError: Kafka refuses a request.
        OperatorError: the queries are not answered within the time, or Kafka cannot be reached.
    """
    queries = online, offline_of(online)
    await close_topics(kafka, queries)
    there = {partition.topic for partition in await partitions_of(kafka, queries)}
    groups = {SELECTOR_GROUP: queries[:1], OFFLINE_SELECTOR_GROUP: queries[1:]}
    groups = {group: topics for group, topics in groups.items() if there.issuperset(topics)}
    async with LagReader(kafka) as reader:

        async def answered() -> bool:
            reading = await reader.read_until_known(groups)
            return not any(line.lag for line in reading.partition_lags())

        await wait_until(answered, timeout_s, f"queries in {online} are not answered: does a selector run?")
    return queries


async def wait_until(condition: Callable[[], Awaitable[bool]], timeout_s: float, otherwise: str) -> None:
    """Poll until a condition holds that sends no notification.

    Raises:
        OperatorError: it does not hold within the time; `otherwise` names a likely cause.
    """
    try:
        async with asyncio.timeout(timeout_s):
            while not await condition():  # noqa: ASYNC110 - leases lapse, and offsets are committed, silently
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise OperatorError(f"not within {timeout_s:g} s: {otherwise}. Run the command again to resume") from None
