"""Kafka cluster of two brokers; the first is also the controller. A test can suspend and resume each process.

The cluster sees a suspended broker as dead and its partitions as without a leader. Clients see a network that drops
every packet.
"""

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Any

import psutil

from broker.kafka.client import open_admin
from broker.kafka.servers.apache import ApacheKafka, changed_properties, server_properties
from broker.kafka.settings import KafkaSettings
from broker.kafka.types import KafkaError
from schemas.errors import OperatorError
from tests.kafka_fixtures import need_apache
from tests.processes import suspended, words_of
from tests.servers import served
from tests.waiting import read_until


def first_node(data: Path, port: int, controller_port: int) -> str:
    (data.parent / "controller_port").write_text(str(controller_port))
    return server_properties(data, port, controller_port)


class SecondNode:
    """Configuration of a broker that joins the cluster of the first node."""

    def __init__(self, first: Path) -> None:
        self._first = first

    def __call__(self, data: Path, port: int, _controller_port: int) -> str:
        # The data folder must carry the cluster's id: copy it from the first node's file, with a node id of its own.
        data.mkdir(parents=True, exist_ok=True)
        meta = (self._first / "data" / "meta.properties").read_text().splitlines()
        kept = [line for line in meta if not line.startswith(("node.id", "directory.id"))]
        (data / "meta.properties").write_text("\n".join([*kept, "node.id=2", ""]))
        controller = (self._first / "controller_port").read_text()
        changed = {
            "process.roles": "broker",
            "node.id": "2",
            "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        }
        return changed_properties(server_properties(data, port, int(controller)), changed)


class Cluster:
    """Two brokers, each of which can be suspended."""

    def __init__(self, settings: KafkaSettings, homes: dict[int, Path]) -> None:
        self.settings = settings
        self._homes = homes

    def process(self, node: int) -> psutil.Process:
        home = str(self._homes[node])
        for child in psutil.Process().children(recursive=True):
            if any(home in word for word in words_of(child)):
                return child
        raise AssertionError(f"node {node} does not run")

    def stopped(self, node: int) -> AbstractAsyncContextManager[None]:
        return suspended(self.process(node).pid)

    async def leaders(self, topic: str) -> dict[int, int]:
        """Return the leaders by partition; empty if the node that receives the request is suspended."""
        try:
            async with open_admin(self.settings) as admin:
                (described,) = await admin.describe_topics([topic])
        except (KafkaError, OperatorError):
            return {}
        return {part["partition"]: part["leader"] for part in described["partitions"]}

    async def until_joined(self) -> list[dict[str, Any]]:
        """Wait until both brokers are members, some time after one was resumed; return their descriptions."""
        async with open_admin(self.settings) as admin:
            found = await read_until(admin.describe_cluster, lambda described: len(described["brokers"]) == 2)
        return found["brokers"]

    async def until_replicated(self, topic: str) -> None:
        """Wait until all replicas of each partition are in sync."""

        async def described() -> list[dict[str, Any]]:
            async with open_admin(self.settings) as admin:
                (found,) = await admin.describe_topics([topic])
            return found["partitions"]

        await read_until(
            described, lambda parts: bool(parts) and all(len(p["isr"]) == len(p["replicas"]) for p in parts)
        )

    async def until_led(self, topic: str, *, partitions: int) -> dict[int, int]:
        """Wait until this number of partitions have a leader; return the leaders by partition."""
        return await read_until(
            lambda: self.leaders(topic), lambda leaders: sum(leader >= 0 for leader in leaders.values()) == partitions
        )


@contextmanager
def first_broker(home: Path) -> Generator[KafkaSettings]:
    """Run the first broker alone; a second one can join later."""
    need_apache()
    with served(lambda: ApacheKafka(home, 0, first_node)) as broker:
        yield broker.settings


@contextmanager
def joined(settings: KafkaSettings, first: Path, second: Path) -> Generator[Cluster]:
    """Run a second broker that joins the first; yield the cluster."""
    with served(lambda: ApacheKafka(second, 0, SecondNode(first))):
        yield Cluster(settings, {1: first, 2: second})


@contextmanager
def two_brokers(folder: Path, request_timeout_ms: int) -> Generator[Cluster]:
    """Run a cluster of two brokers; its client settings have this request timeout."""
    first = folder / "first"
    with first_broker(first) as settings:
        patient = settings.model_copy(update={"request_timeout_ms": request_timeout_ms})
        with joined(patient, first, folder / "second") as cluster:
            yield cluster
