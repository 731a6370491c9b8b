"""Cost of an option of the gateway: gRPC against HTTP, HTTPS against HTTP, and authentication against none.

Gateways, or listeners of one, that differ in one property get the same load in turns, because the machine's speed
varies more between minutes than they differ. All write to the same topic, where the same process answers. The client
shares the cores with them, and the one of grpc.aio needs more CPU than aiohttp's, so the gateways' own CPU time is
shown as well. Connections are kept alive, as by real clients.
"""

import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import trustme

from bench.core.figures import Figure, at_most, beside
from bench.load.http_load import KEY_ENV
from bench.throughput.gateway import PACE, ROUNDS, SECONDS, answered_task, infer_url, load_on, running_gateway
from process.gateway_access import CA_ENV
from process.security.api_keys import ID_BYTES, SECRET_BYTES, make_key
from process.sockets import LOOPBACK, free_port
from schemas.access import Role
from schemas.rows.tenants import ApiKeyRow
from store.api_keys import put_key
from store.pool import open_pool

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest
    from broker.kafka.settings import KafkaSettings

_KEY_ROUNDS: Final = 8
_KEY_SECONDS: Final = 3.0
_KEY_LIMIT: Final = 1.03
_MANY: Final = 1_000_000
_PACED_CPU: Final = f"CPU of 1,000 requests at {PACE:g}/s"
_UNITS: Final = {
    "requests": "requests/s",
    "CPU of 1,000 requests": "s",
    f"p50 at {PACE:g}/s": "ms",
    f"p99 at {PACE:g}/s": "ms",
    _PACED_CPU: "s",
}


class _Listener(NamedTuple):
    """Listener under load: its process, its URL, and additions to the client's environment."""

    pid: int
    url: str
    env: Mapping[str, str] = {}


Listeners = dict[str, _Listener]
"""Listeners by name; the first one is the base of the others."""


async def measure_grpc(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over gRPC and over HTTP, of one gateway."""
    return await _compare(system.kafka, broker, _grpc_and_http, ROUNDS, SECONDS)


async def measure_tls(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over HTTPS and over HTTP."""
    return await _compare(system.kafka, broker, _https_and_http, ROUNDS, SECONDS)


async def measure_keys(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, with a key, and with a key that has quotas and tasks."""
    return await _compare(system.kafka, broker, _with_and_without_keys, _KEY_ROUNDS, _KEY_SECONDS, _KEY_LIMIT)


async def _compare(
    kafka: "KafkaSettings",
    broker: str,
    opened: Callable[["KafkaSettings", str, str], AbstractAsyncContextManager[Listeners]],
    rounds: int,
    seconds: float,
    most_cpu: float | None = None,
) -> list[Figure]:
    """Load the listeners in turns, whose order alternates; the first round is the warm-up."""
    async with answered_task(kafka) as (task, dsn), opened(kafka, task, dsn) as listeners:
        found: dict[str, list[list[float]]] = {name: [] for name in listeners}
        for number in range(rounds + 1):
            for name in list(listeners)[:: 1 if number % 2 else -1]:
                row = await _take_turn(listeners[name], seconds)
                if number:
                    found[name].append(row)
    base = found.pop(next(iter(found)))
    return [one for name, rows in found.items() for one in _figures(name, broker, rows, base, most_cpu)]


async def _take_turn(listener: _Listener, seconds: float) -> list[float]:
    """Load at full speed, then at a steady rate. Returns the values in the order of the units."""
    full, full_per_cpu_s = await load_on(listener.pid, listener.url, seconds, env=listener.env)
    paced, paced_per_cpu_s = await load_on(listener.pid, listener.url, seconds, PACE, listener.env)
    return [full.per_second, 1e3 / full_per_cpu_s, paced.p50_ms, paced.p99_ms, 1e3 / paced_per_cpu_s]


def _figures(
    what: str, broker: str, ours: list[list[float]], base: list[list[float]], most_cpu: float | None
) -> list[Figure]:
    """Return the figures of rows, one per turn, against the base's rows of the same turns.

    Each figure is the base's median times the median of the ratios. The CPU time at a steady rate, which varies least,
    should be at most `most_cpu` times the base's.
    """
    made: list[Figure] = []
    for at, (name, unit) in enumerate(_UNITS.items()):
        baseline = median(row[at] for row in base)
        value = baseline * median(one[at] / other[at] for one, other in zip(ours, base, strict=True))
        if name == _PACED_CPU and most_cpu is not None:
            made.append(at_most(f"{what}, {name}", broker, value, unit, baseline, most_cpu))
        else:
            made.append(beside(f"{what}, {name}", broker, value, unit, baseline))
    return made


@asynccontextmanager
async def _grpc_and_http(kafka: "KafkaSettings", task: str, dsn: str) -> AsyncGenerator[Listeners]:
    port, grpc_port = free_port(), free_port()
    async with running_gateway(kafka, dsn, port, "--grpc-port", str(grpc_port)) as pid:
        yield {
            "HTTP": _Listener(pid, infer_url(port, task)),
            "gRPC over HTTP": _Listener(pid, f"grpc://{LOOPBACK}:{grpc_port}/{task}"),
        }


@asynccontextmanager
async def _https_and_http(kafka: "KafkaSettings", task: str, dsn: str) -> AsyncGenerator[Listeners]:
    port, tls_port = free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="infaas-bench-") as folder:
        flags, env = _certified(Path(folder))
        async with (
            running_gateway(kafka, dsn, port) as pid,
            running_gateway(kafka, dsn, tls_port, *flags) as tls_pid,
        ):
            yield {
                "HTTP": _Listener(pid, infer_url(port, task)),
                "HTTPS over HTTP": _Listener(tls_pid, infer_url(tls_port, task, "https"), env),
            }


def _certified(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return the flags of a gateway with a certificate, and the environment of a client that trusts it."""
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    made = authority.issue_cert(LOOPBACK)
    authority.cert_pem.write_to_path(str(files["ca"]))
    made.cert_chain_pems[0].write_to_path(str(files["cert"]))
    made.private_key_pem.write_to_path(str(files["key"]))
    return ["--tls-cert", str(files["cert"]), "--tls-key", str(files["key"])], {CA_ENV: str(files["ca"])}


@asynccontextmanager
async def _with_and_without_keys(kafka: "KafkaSettings", task: str, dsn: str) -> AsyncGenerator[Listeners]:
    port, keyed_port = free_port(), free_port()
    async with AsyncExitStack() as stack:
        pid = await stack.enter_async_context(running_gateway(kafka, dsn, port))
        keyed_pid = await stack.enter_async_context(running_gateway(kafka, dsn, keyed_port, "--auth", "true"))
        yield {"none": _Listener(pid, infer_url(port, task))} | {
            f"{name} over none": _Listener(keyed_pid, infer_url(keyed_port, task), {KEY_ENV: key})
            for name, key in (await _keys(dsn, task)).items()
        }


async def _keys(dsn: str, task: str) -> dict[str, str]:
    plain, limited = (make_key(os.urandom(ID_BYTES + SECRET_BYTES)) for _ in range(2))
    quotas: dict[str, Any] = {"tasks": [task], "per_second": _MANY, "concurrent": _MANY}
    async with open_pool(dsn, max_size=1) as pool:
        for key, limits in ((plain, {}), (limited, quotas)):
            row = ApiKeyRow(id=key.id, secret_hash=key.hash(), tenant="bench", roles=[Role.QUERY])
            await put_key(pool, msgspec.structs.replace(row, **limits))
    return {"a key": str(plain), "a key with quotas": str(limited)}
