"""What TLS costs: a gateway that serves HTTPS beside one that serves HTTP, asked the same by the same client in turns.

Both put their queries on the same topic, where the same process answers, and connections are kept, as clients do.
"""

import tempfile
import uuid
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import trustme

from bench.core.figures import Figure
from bench.throughput.gateway import PACE, ROUNDS, SECONDS, database_of, load_on, running_gateway, running_module
from bench.throughput.gateway_baseline import PARTITIONS
from broker.topics import ensure_task_topics
from infaas.client.client_tls import CA_ENV
from process.ports import LOOPBACK, free_port
from schemas.topics import task_topic

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

_PLAIN, _TLS = "http", "https"
_UNITS = {
    "requests": "requests/s",
    "CPU of 1,000 requests": "s",
    f"p50 at {PACE:g}/s": "ms",
    f"p99 at {PACE:g}/s": "ms",
    f"CPU of 1,000 requests at {PACE:g}/s": "s",
}


async def measure(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests a second, their times, and CPU time, over HTTPS and over HTTP."""
    task = f"bench-{uuid.uuid4().hex[:8]}"
    await ensure_task_topics(system.kafka, task, PARTITIONS)
    ports = {scheme: free_port() for scheme in (_PLAIN, _TLS)}
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        flags, env = _certified(Path(folder))
        async with (
            database_of(task) as dsn,
            running_module(system.kafka, "bench.throughput.gateway_baseline", "answer", task_topic(task)),
            running_gateway(system.kafka, dsn, ports[_PLAIN]) as plain,
            running_gateway(system.kafka, dsn, ports[_TLS], *flags) as tls,
        ):
            found: dict[str, list[list[float]]] = {_PLAIN: [], _TLS: []}
            for number in range(ROUNDS + 1):
                for scheme, pid in ((_PLAIN, plain), (_TLS, tls)):
                    url = f"{scheme}://{LOOPBACK}:{ports[scheme]}/v2/models/{task}/infer"
                    values = await _round(pid, url, env)
                    if number:  # the first round warms everything up
                        found[scheme].append(values)
    medians = {scheme: [median(column) for column in zip(*rows, strict=True)] for scheme, rows in found.items()}
    return [
        Figure(name=f"HTTPS over HTTP, {name}", broker=broker, value=ours, unit=unit, baseline=bare, ratio=ours / bare)
        for (name, unit), ours, bare in zip(_UNITS.items(), medians[_TLS], medians[_PLAIN], strict=True)
    ]


async def _round(pid: int, url: str, env: dict[str, str]) -> list[float]:
    """Values in the order of the units."""
    full, full_per_cpu_s = await load_on(pid, url, SECONDS, env=env)
    paced, paced_per_cpu_s = await load_on(pid, url, SECONDS, PACE, env)
    return [full.per_second, 1e3 / full_per_cpu_s, paced.p50_ms, paced.p99_ms, 1e3 / paced_per_cpu_s]


def _certified(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Flags of a gateway with a certificate, and what has a client trust it."""
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    made = authority.issue_cert(LOOPBACK)
    authority.cert_pem.write_to_path(str(files["ca"]))
    made.cert_chain_pems[0].write_to_path(str(files["cert"]))
    made.private_key_pem.write_to_path(str(files["key"]))
    return ["--tls-cert", str(files["cert"]), "--tls-key", str(files["key"])], {CA_ENV: str(files["ca"])}
