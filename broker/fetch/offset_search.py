"""Offsets of the starts and ends of partitions, and of times in them, requested from their leaders."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import LeaderNotAvailableError, NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.offset import OffsetRequest

END: Final = -1
START: Final = -2


async def find_offsets(client: AIOKafkaClient, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    """Find an offset of each partition: its `START`, its `END`, or that of the first record of a time in ms or later.

    A partition without a record of that time or later is absent.

    Raises:
        KafkaError: a partition has no leader, or its leader does not answer.
    """
    by_node: dict[int, dict[TopicPartition, int]] = {}
    for partition, time_ms in wanted.items():
        node = client.cluster.leader_for_partition(partition)
        if node is None or node < 0:
            raise LeaderNotAvailableError(partition)
        by_node.setdefault(node, {})[partition] = time_ms
    answers = await asyncio.gather(*(_ask(client, node, asked) for node, asked in by_node.items()))
    return {partition: offset for answer in answers for partition, offset in answer.items()}


async def _ask(client: AIOKafkaClient, node: int, wanted: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
    topics: dict[str, list[tuple[int, int]]] = {}
    for partition, time_ms in wanted.items():
        topics.setdefault(partition.topic, []).append((partition.partition, time_ms))
    response: Any = await client.send(node, OffsetRequest(-1, 0, list(topics.items())))
    found: dict[TopicPartition, int] = {}
    for topic, partitions in response.topics:
        for number, code, *answer in partitions:
            error = for_code(code)
            if error is not NoError:
                raise error(TopicPartition(topic, number))
            offset = answer[-1] if response.API_VERSION else (answer[0] or [-1])[0]
            if offset >= 0:
                found[TopicPartition(topic, number)] = offset
    if len(found) < sum(time_ms < 0 for time_ms in wanted.values()):
        raise UnknownTopicOrPartitionError
    return found
