"""Record batches that no client library writes: header names that are not UTF-8, and bytes changed on disk."""

import struct
from pathlib import Path
from tempfile import gettempdir

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from broker.kafka.client import client_options
from broker.kafka.settings import KafkaSettings
from tests.unit.broker.batch_builder import batch_builder

_CRC_AT = struct.calcsize(">qiib")
_CHECKED_FROM = _CRC_AT + 4
_NOT_LEADER = 6


def batch_of(records: list[tuple[bytes, list[tuple[bytes, bytes]]]]) -> bytes:
    """Build a batch of records, given as values and headers; a header's name may be any bytes."""
    builder = batch_builder()
    names: list[tuple[bytes, bytes]] = []
    for number, (value, headers) in enumerate(records):
        written: list[tuple[str, bytes | None]] = []
        for name, text in headers:
            stand_in = f"~{len(names):03}".ljust(len(name), "~")[: max(len(name), 4)]
            assert len(stand_in) == len(name), "a name has four bytes at least"
            names.append((stand_in.encode(), name))
            written.append((stand_in, text))
        assert builder.append(number, 1_700_000_000_000, None, value, written) is not None
    batch = bytearray(builder.build())
    for stand_in, name in names:
        batch[:] = batch.replace(stand_in, name, 1)
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_CHECKED_FROM:])))
    return bytes(batch)


async def write_batch(kafka: KafkaSettings, topic: str, partition: int, batch: bytes) -> int:
    """Make the broker append a batch unchanged; return the offset of its first record."""
    client = AIOKafkaClient(**client_options(kafka, "test"))
    await client.bootstrap()
    try:
        await client._wait_on_metadata(topic)  # pyright: ignore
        request = ProduceRequest(
            transactional_id=None, required_acks=-1, timeout=10_000, topics=[(topic, [(partition, batch)])]
        )
        while True:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            response = await client.send(leader, request)
            ((_, ((_, error, offset, *_),)),) = response.topics
            if error != _NOT_LEADER:  # a new topic returns this for a short time
                assert error == 0, f"Kafka refuses the batch: {error}"
                return offset
            await client.force_metadata_update()
    finally:
        await client.close()


def damage_on_disk(topic: str, partition: int, value: bytes) -> None:
    """Change `value` in the partition's log on disk, so that its batch no longer matches its checksum."""
    (log,) = Path(gettempdir()).glob(f"kafka-*/data/{topic}-{partition}/00000000000000000000.log")
    at = log.read_bytes().index(value)
    with log.open("r+b") as file:
        file.seek(at)
        file.write(bytes(byte ^ 0x55 for byte in value))
