"""CPU time of a fetch beside idle partitions: 1,000 partitions over 4, of the reader and of the broker.

A reader has a topic of four partitions for each variant, as a worker has, over one connection. Single records arrive in
one topic, so each needs a fetch of its own. The broker's time includes that of producing the record. The readers take
turns on one broker, each in a process of its own: `python -m bench.throughput.fetch READY-TOPIC TOPIC ...` runs one.
"""

import argparse
import asyncio
import signal
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

import psutil
import uvloop
from aiokafka import AIOKafkaProducer, TopicPartition

from bench.core.figures import Figure, at_most
from bench.core.programs import cpu_s, running_module
from bench.core.rounds import Rounds, take_rounds
from bench.load.pace import pace
from broker.fetch.read_connection import ReadConnection
from broker.kafka.offsets import END
from broker.kafka.settings import KafkaSettings
from broker.kafka.topics import TopicSpec, ensure_topics
from schemas.defaults import PARTITIONS

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

FEW: Final = 4
MANY: Final = 1_000
RECORDS: Final = 3_000
LIMIT: Final = 1.5
_RATE_PER_S: Final = 250.0
_WARM_UP: Final = 1_000


class FetchCost(NamedTuple):
    """CPU time per record, in microseconds."""

    reader: float
    broker: float


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure the CPU time of fetches beside many partitions, over that beside few."""
    jvm = next(child for child in psutil.Process(system.pid).children(recursive=True) if child.name() == "java")
    rounds = await measure_costs(system.kafka, jvm, (FEW, MANY), RECORDS)
    return rounds.of(
        at_most(f"CPU of a fetch beside {MANY:,} partitions, {side}", broker,
                [getattr(costs[MANY], side) for costs in rounds.taken], "us",
                [getattr(costs[FEW], side) for costs in rounds.taken], LIMIT)
        for side in FetchCost._fields
    )  # fmt: skip


async def measure_costs(
    kafka: KafkaSettings, broker: psutil.Process, partitions: tuple[int, ...], records: int
) -> Rounds[dict[int, FetchCost]]:
    """Return the costs by the number of partitions that are read."""
    topics = [f"bench-fetch-{uuid.uuid4().hex[:8]}-{number}" for number in range(max(partitions) // PARTITIONS)]
    await ensure_topics(kafka, [TopicSpec(topic, PARTITIONS) for topic in topics])

    async def take(_number: int) -> dict[int, FetchCost]:
        return {count: await _cost(kafka, broker, topics[: count // PARTITIONS], records) for count in partitions}

    return await take_rounds(take)


async def _cost(kafka: KafkaSettings, broker: psutil.Process, topics: list[str], records: int) -> FetchCost:
    async with (
        running_module(kafka, "bench.throughput.fetch", *topics) as reading,
        AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer,
    ):
        reader = psutil.Process(reading.pid)
        before = {reader: 0.0, broker: 0.0}
        async for number in pace(_RATE_PER_S, _WARM_UP + records):
            if number == _WARM_UP:
                before = {process: cpu_s(process) for process in before}
            await producer.send_and_wait(topics[0], b"x" * 600, partition=number % PARTITIONS)
        used = {process: 1e6 * (cpu_s(process) - at) / records for process, at in before.items()}
    return FetchCost(used[reader], used[broker])


async def _read(topics: list[str]) -> None:
    """Read topics from their ends until cancelled, each into a buffer of its own."""
    async with ReadConnection(KafkaSettings(), "bench-fetch") as connection:
        buffers = [connection.fetcher.open_buffer() for _ in topics]
        starts = [
            buffer.begin(TopicPartition(topic, number), END)
            for topic, buffer in zip(topics, buffers, strict=True)
            for number in range(PARTITIONS)
        ]
        await asyncio.gather(*starts)
        print("ready", flush=True)
        while True:
            await buffers[0].poll()


def main() -> None:
    """Run a reader until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="+")
    topics: list[str] = parser.parse_args().topics
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    uvloop.run(_read(topics))


if __name__ == "__main__":
    main()
