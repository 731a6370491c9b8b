"""Close topics before they are deleted: Kafka then refuses every record written to them.

Otherwise, records could arrive between the last check of a topic and its deletion, and nobody would read them. Kafka
has no switch for this, but `max.message.bytes` may be 0: leaders then refuse the records of all clients, whatever their
protocol. The limit takes effect some milliseconds after it is set. A batch that is damaged on purpose tests for it: a
leader checks the size first, and never stores a damaged batch.
"""

import asyncio
from collections.abc import Collection, Iterable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from broker.kafka.admin import open_librdkafka_admin, set_configs
from broker.kafka.client import connect_client
from broker.kafka.cluster import broker_features
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import partitions_of
from broker.producing.partition_queue import ANONYMOUS, PartitionQueue, RecordBatch
from broker.producing.produce_api import Produce, read_produced
from schemas.errors import OperatorError

_CLOSED: Final = {"max.message.bytes": "0"}
_WAIT_S: Final = 30.0
_AGAIN_S: Final = 0.05
_CLIENT: Final = "infaas-close"


async def close_topics(settings: KafkaSettings, topics: Collection[str]) -> None:
    """Make Kafka refuse all records written to these topics, and wait until it does. Missing topics are no error.

    The embedded broker does not support this; there, records written just before the deletion are lost.

    Raises:
        OperatorError: Kafka cannot be reached, or does not close the topics.
    """
    if not (await broker_features(settings)).trims:
        return
    partitions = await partitions_of(settings, topics)
    if partitions:
        await _close(settings, partitions)


async def _close(settings: KafkaSettings, partitions: Iterable[TopicPartition]) -> None:
    left = set(partitions)
    async with open_librdkafka_admin(settings) as admin:
        await set_configs(admin, {partition.topic: _CLOSED for partition in left})
    client = await connect_client(settings, _CLIENT)
    try:
        async with asyncio.timeout(_WAIT_S):
            while left := left - await _refusing(client, left):  # noqa: ASYNC110 - Kafka has no event for it
                await asyncio.sleep(_AGAIN_S)
    except TimeoutError:
        raise OperatorError(
            f"Kafka did not close {len(left)} partitions, {min(left)} first: may this user alter topic configurations?"
        ) from None
    except (KafkaError, OSError) as error:
        raise OperatorError(f"Kafka did not close topics ({error!r}); run the command again to resume") from error
    finally:
        await client.close()


async def _refusing(client: AIOKafkaClient, partitions: Iterable[TopicPartition]) -> set[TopicPartition]:
    """Return the partitions whose leaders refuse a record of any size."""
    client.set_topics({partition.topic for partition in partitions})
    await client.force_metadata_update()
    by_leader = dict[int, list[TopicPartition]]()
    for partition in partitions:
        leader = client.cluster.leader_for_partition(partition)
        if leader is not None and leader >= 0:
            by_leader.setdefault(leader, []).append(partition)
    found = set[TopicPartition]()
    for leader, led in by_leader.items():
        probes = [(PartitionQueue(*partition), RecordBatch([], _damaged())) for partition in led]
        answer: Any = await client.send(leader, Produce.of(probes, 1000))
        found |= {
            TopicPartition(topic, number)
            for (topic, number), said in read_produced(answer)
            if said.code == MessageSizeTooLargeError.errno
        }
    return found


def _damaged() -> bytes:
    """Return a batch of one record with a wrong checksum."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, *ANONYMOUS, -1, 1024)
    builder.append(0, 0, None, b"", [])
    batch = builder.build()
    batch[-1] ^= 0xFF
    return bytes(batch)
