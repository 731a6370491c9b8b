"""Three nodes of Apache Kafka on this machine, so that a partition can lose its leader."""

import asyncio
import base64
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from broker.client import ping
from broker.servers.apache import find_java
from broker.servers.jars import cache_dir, fetch_jars
from broker.settings import KafkaSettings
from process.ports import LOOPBACK, free_port
from process.subprocesses import running
from schemas.errors import OperatorError

_NODES: Final = 3
_READY_S: Final = 90.0
_LOOK_S: Final = 0.2
_HEAP: Final = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class KafkaCluster:
    """A cluster whose nodes are brokers and controllers at once."""

    def __init__(self, bootstrap: str, nodes: Sequence[asyncio.subprocess.Process]) -> None:
        self.bootstrap = bootstrap
        self._nodes = nodes

    def processes(self) -> list[psutil.Process]:
        """The nodes' processes."""
        return [psutil.Process(node.pid) for node in self._nodes]


@asynccontextmanager
async def kafka_cluster(home: Path) -> AsyncGenerator[KafkaCluster]:
    """Run a cluster while the context is open; entering waits until all nodes answer.

    Raises:
        OperatorError: it cannot be had, or a node does not start.
    """
    java, jars = await asyncio.to_thread(find_java), await fetch_jars(cache_dir())
    program = [java, *_HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{jars}/*"]
    ports = [(free_port(), free_port()) for _ in range(_NODES)]
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    async with AsyncExitStack() as stack:
        nodes: list[asyncio.subprocess.Process] = []
        for number in range(_NODES):
            folder = home / f"node-{number}"
            folder.mkdir(parents=True)
            properties, log = folder / "server.properties", folder / "kafka.log"
            properties.write_text(_properties(folder / "data", number, ports))
            form = [*program, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", properties]
            async with running(form, log) as formatting, asyncio.timeout(_READY_S):
                if await formatting.wait():
                    raise OperatorError(f"a node of Kafka cannot use its folder, see {log}")
            nodes.append(await stack.enter_async_context(running([*program, "kafka.Kafka", properties], log)))
        bootstrap = ",".join(f"{LOOPBACK}:{port}" for port, _ in ports)
        await _wait_until_complete(KafkaSettings(bootstrap=bootstrap))
        yield KafkaCluster(bootstrap, nodes)


async def _wait_until_complete(settings: KafkaSettings) -> None:
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                if await ping(settings) == _NODES:
                    return
            except OperatorError:
                pass
            await asyncio.sleep(_LOOK_S)


def _properties(data: Path, number: int, ports: Sequence[tuple[int, int]]) -> str:
    port, controller_port = ports[number]
    voters = ",".join(f"{other + 1}@{LOOPBACK}:{ctl}" for other, (_, ctl) in enumerate(ports))
    return f"""\
process.roles=broker,controller
node.id={number + 1}
listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters={voters}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data.absolute()}
auto.create.topics.enable=false
offsets.topic.replication.factor=3
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.network.threads=2
num.io.threads=2
background.threads=2
"""
