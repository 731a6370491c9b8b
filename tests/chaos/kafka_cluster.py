"""Three nodes of Apache Kafka on this machine, so that a partition can lose its leader."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from broker.kafka.cluster import ping
from broker.kafka.servers.apache import ApacheKafka, new_cluster_id, server_properties
from broker.kafka.settings import KafkaSettings
from process.sockets import LOOPBACK, free_port
from schemas.errors import OperatorError

_NODES: Final = 3
_READY_S: Final = 90.0
_LOOK_S: Final = 0.2


class NodePorts(NamedTuple):
    """Ports of one node; all nodes must know them before any node starts."""

    broker: int
    controller: int


class KafkaCluster:
    """Cluster whose nodes are brokers and controllers at once."""

    def __init__(self, nodes: Sequence[ApacheKafka]) -> None:
        self.bootstrap = ",".join(node.bootstrap for node in nodes)
        self._nodes = nodes

    def processes(self) -> list[psutil.Process]:
        """Return the nodes' processes."""
        return [psutil.Process(node.pid) for node in self._nodes]


@asynccontextmanager
async def kafka_cluster(home: Path) -> AsyncGenerator[KafkaCluster]:
    """Run a cluster while the context is open; entering waits until all nodes answer.

    Raises:
        OperatorError: Kafka is not available, or a node does not start.
    """
    ports, cluster_id = [NodePorts(free_port(), free_port()) for _ in range(_NODES)], new_cluster_id()
    nodes = [_node(home / f"node-{number}", ports, number, cluster_id) for number in range(_NODES)]
    async with AsyncExitStack() as stack:
        async with asyncio.timeout(_READY_S), asyncio.TaskGroup() as starting:
            for node in nodes:  # at once: no node answers before the quorum is up
                starting.create_task(stack.enter_async_context(node))
        cluster = KafkaCluster(nodes)
        await _wait_until_complete(KafkaSettings(bootstrap=cluster.bootstrap))
        yield cluster


def _node(home: Path, ports: Sequence[NodePorts], number: int, cluster_id: str) -> ApacheKafka:
    def properties(data: Path, port: int, _controller_port: int) -> str:
        # A later line overrides an earlier one.
        return server_properties(data, port, ports[number].controller) + _properties(ports, number)

    return ApacheKafka(home, ports[number].broker, properties, cluster=cluster_id)


def _properties(ports: Sequence[NodePorts], number: int) -> str:
    voters = ",".join(f"{other + 1}@{LOOPBACK}:{each.controller}" for other, each in enumerate(ports))
    return f"""\
node.id={number + 1}
controller.quorum.voters={voters}
offsets.topic.replication.factor={len(ports)}
metadata.max.idle.interval.ms=500
"""


async def _wait_until_complete(settings: KafkaSettings) -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                if await ping(settings) == _NODES:
                    return
            except OperatorError:
                pass
            await asyncio.sleep(_LOOK_S)
