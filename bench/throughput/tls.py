"""Cost of TLS: a gateway with HTTPS against one with HTTP, with the same load by the same client in turns.

Both write to the same topic, where the same process answers. Connections are kept alive, as by real clients.
"""

import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import trustme

from bench.core.figures import Figure
from bench.throughput.gateway import ROUNDS, SECONDS, database_of, running_gateway, running_module
from bench.throughput.gateway_baseline import PARTITIONS
from bench.throughput.turns import figures_of, take_turn
from broker.topics import ensure_task_topics
from infaas.client.client_tls import CA_ENV
from process.ports import LOOPBACK, free_port
from schemas.topics import task_topic

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

_PLAIN, _TLS = "http", "https"


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over HTTPS and over HTTP."""
    task = f"bench-{uuid.uuid4().hex[:8]}"
    await ensure_task_topics(system.kafka, task, PARTITIONS)
    ports = {scheme: free_port() for scheme in (_PLAIN, _TLS)}
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        flags, env = _certified(Path(folder))
        async with (
            database_of(system.kafka, task) as dsn,
            running_module(system.kafka, "bench.throughput.gateway_baseline", "answer", task_topic(task)),
            running_gateway(system.kafka, dsn, ports[_PLAIN]) as plain,
            running_gateway(system.kafka, dsn, ports[_TLS], *flags) as tls,
        ):
            found: dict[str, list[list[float]]] = {_PLAIN: [], _TLS: []}
            for number in range(ROUNDS + 1):
                for scheme, pid in ((_PLAIN, plain), (_TLS, tls)):
                    url = f"{scheme}://{LOOPBACK}:{ports[scheme]}/v2/models/{task}/infer"
                    values = await take_turn(pid, url, SECONDS, env)
                    if number:  # the first round is the warm-up
                        found[scheme].append(values)
    return figures_of("HTTPS over HTTP", broker, found[_TLS], found[_PLAIN])


def _certified(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the flags of a gateway with a certificate, and the environment of a client that trusts it."""
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    made = authority.issue_cert(LOOPBACK)
    authority.cert_pem.write_to_path(str(files["ca"]))
    made.cert_chain_pems[0].write_to_path(str(files["cert"]))
    made.private_key_pem.write_to_path(str(files["key"]))
    return ["--tls-cert", str(files["cert"]), "--tls-key", str(files["key"])], {CA_ENV: str(files["ca"])}
