"""What a producer promises while Kafka fails: each record ends in time, and what works again is written to at once.

Two brokers of one cluster: the first is the controller, too. Each is stopped as it stands and goes on later, which for
the others is a partition without leader, and for its clients a network that swallows everything.
"""

import asyncio
import time
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, ExitStack
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from broker.client import open_admin
from broker.kafka_types import KafkaError, UnknownTopic
from broker.producer import Producer
from broker.servers.apache import ApacheKafka, server_properties
from broker.settings import KafkaSettings
from broker.topics import TopicSpec, ensure_topics
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache, served
from tests.processes import suspended
from tests.waiting import read_until

TIMEOUT_S = 3.0
STOPPED_S = 4.0
"""Longer than the controller waits for a broker."""


def first_node(data: Path, port: int, controller_port: int) -> str:
    (data.parent / "controller_port").write_text(str(controller_port))
    return server_properties(data, port, controller_port)


class SecondNode:
    """Configuration of a broker that joins the cluster of the first node."""

    def __init__(self, first: Path) -> None:
        self._first = first

    def __call__(self, data: Path, port: int, _controller_port: int) -> str:
        # It is formatted for the cluster that is there: by the first node's file, under its own number.
        data.mkdir(parents=True, exist_ok=True)
        meta = (self._first / "data" / "meta.properties").read_text().splitlines()
        kept = [line for line in meta if not line.startswith(("node.id", "directory.id"))]
        (data / "meta.properties").write_text("\n".join([*kept, "node.id=2", ""]))
        controller = (self._first / "controller_port").read_text()
        lines = server_properties(data, port, int(controller)).splitlines()
        changed = {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        kept = [line for line in lines if line.partition("=")[0] not in changed]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items()), ""])


class Cluster:
    """Two brokers, and how to stop each."""

    def __init__(self, settings: KafkaSettings, homes: dict[int, Path]) -> None:
        self.settings = settings
        self._homes = homes

    def process(self, node: int) -> psutil.Process:
        home = str(self._homes[node])
        for child in psutil.Process().children(recursive=True):
            if any(home in word for word in child.cmdline()):
                return child
        raise AssertionError(f"node {node} does not run")

    def stopped(self, node: int) -> AbstractAsyncContextManager[None]:
        return suspended(self.process(node).pid)

    async def leaders(self, topic: str) -> dict[int, int]:
        """Leaders by partition; none where the node that was asked is stopped."""
        try:
            async with open_admin(self.settings) as admin:
                (described,) = await admin.describe_topics([topic])
        except (KafkaError, OperatorError):
            return {}
        return {part["partition"]: part["leader"] for part in described["partitions"]}

    async def until_led(self, topic: str, *, partitions: int) -> dict[int, int]:
        """Wait until so many partitions have a leader; returns the leaders by partition."""
        return await read_until(
            lambda: self.leaders(topic), lambda leaders: sum(leader >= 0 for leader in leaders.values()) == partitions
        )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    folder = tmp_path_factory.mktemp("two-kafkas")
    need_apache()
    first, second = folder / "first", folder / "second"
    with ExitStack() as stack:
        settings = stack.enter_context(served(lambda: ApacheKafka(first, 0, first_node)))
        stack.enter_context(served(lambda: ApacheKafka(second, 0, SecondNode(first))))
        timeout_ms = int(TIMEOUT_S * 1000)
        yield Cluster(settings.model_copy(update={"request_timeout_ms": timeout_ms}), {1: first, 2: second})


@pytest.fixture
async def topic(cluster: Cluster) -> str:
    name = f"test-{uuid4()}"
    patient = cluster.settings.model_copy(update={"request_timeout_ms": 10_000})
    await ensure_topics(patient, [TopicSpec(name, 2)])
    return name


async def sent_until(producer: Producer, topic: str, until: float) -> list[KafkaError | None]:
    """Send to both partitions now and then; returns how each record ended, all of which happens in time."""
    ends = list[KafkaError | None]()
    while time.monotonic() < until:
        pair = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
        done, waiting = await asyncio.wait(pair, timeout=TIMEOUT_S * 5)
        assert not waiting, "a record has no end"
        assert len(done) == 2
        for future in pair:
            error = future.exception()
            assert error is None or isinstance(error, KafkaError)
            ends.append(error)
    return ends


async def test_while_kafka_is_away_every_record_fails_in_time_and_after_it_the_next_is_written(
    cluster: Cluster, topic: str
) -> None:
    async with Producer(cluster.settings, "test") as producer:
        before = [await producer.send_and_wait(topic, b"x", partition=number) for number in (0, 1)]
        async with cluster.stopped(1), cluster.stopped(2):
            under_way = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
            unknown = await producer.send(f"new-{uuid4()}", b"x")
            await sent_until(producer, topic, time.monotonic() + STOPPED_S)
            assert all(future.done() for future in under_way)
            assert not isinstance(unknown.exception(), UnknownTopic), "nobody said that it does not exist"
        await cluster.until_led(topic, partitions=2)
        after = [await producer.send_and_wait(topic, b"x", partition=number) for number in (0, 1)]
        assert all(new.offset > old.offset for old, new in zip(before, after, strict=True))
        more = [await producer.send(topic, b"%d" % number, partition=0) for number in range(10)]
        assert [(await ack).offset for ack in more] == list(range(after[0].offset + 1, after[0].offset + 11))


async def test_a_partition_without_leader_holds_up_no_other(cluster: Cluster, topic: str) -> None:
    leaders = await cluster.until_led(topic, partitions=2)
    (lost,) = (number for number, leader in leaders.items() if leader == 2)
    kept = 1 - lost
    async with Producer(cluster.settings, "test", max_in_flight=20) as producer:
        for number in (kept, lost):
            await producer.send_and_wait(topic, b"x", partition=number)
        async with cluster.stopped(2):
            early = await producer.send(topic, b"x", partition=lost)
            await asyncio.wait([early])
            assert isinstance(early.exception(), KafkaError)
            await cluster.until_led(topic, partitions=1)
            late = [await producer.send(topic, b"late", partition=lost) for _ in range(10)]
            for _ in range(20):  # more than may be in flight with them
                await producer.send_and_wait(topic, b"x", partition=kept)
            for future in late:
                with pytest.raises(KafkaError):
                    await future
        await cluster.until_led(topic, partitions=2)
        assert (await producer.send_and_wait(topic, b"x", partition=lost)).offset > 0


async def test_leaving_ends_in_time_while_kafka_is_away(cluster: Cluster, topic: str) -> None:
    producer = await Producer(cluster.settings, "test").__aenter__()
    sent = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
    await asyncio.gather(*sent)
    async with cluster.stopped(1), cluster.stopped(2):
        sent = [await producer.send(topic, b"x", partition=number) for number in (0, 1)]
        async with asyncio.timeout(30):
            await producer.__aexit__(None, None, None)
        for future in sent:
            with pytest.raises(KafkaError):
                await future
    await cluster.until_led(topic, partitions=2)
