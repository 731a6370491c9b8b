"""Cost of an option of the gateway: gRPC against HTTP, HTTPS against HTTP, and authentication against none.

Gateways, or listeners of one, that differ in one property get the same load in turns, because the machine's speed
varies more between minutes than they differ. All write to the same topic, where the same process answers. The compiled
client speaks plain HTTP only, so gRPC, HTTPS, and the HTTP beside them have clients in Python. The client shares the
cores with the gateways, and the one of grpc.aio needs more CPU than aiohttp's, so the gateways' own CPU time is shown
as well. Connections are kept alive, as by real clients.
"""

import os
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trustme

from bench.core.figures import Figure, at_most, beside
from bench.load.http_load import compiled_client, load_url
from bench.throughput.gateway import (
    CONNECTIONS,
    PACE,
    Listener,
    LoadOn,
    Turn,
    answered_task,
    compiled_load,
    infer_path,
    running_gateway,
    take_turns,
)
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

SECONDS: Final = 4.0
"""Seconds of each load; the listeners differ in CPU time, which needs no long tail of latencies."""
_KEY_LIMIT: Final = 1.03
_MANY: Final = 1_000_000
_PACED_CPU: Final = f"CPU of 1,000 requests at {PACE:g}/s"
_COLUMNS: Final = (
    ("requests", "requests/s"),
    ("CPU of 1,000 requests", "s"),
    (f"p50 at {PACE:g}/s", "ms"),
    (f"p99 at {PACE:g}/s", "ms"),
    (_PACED_CPU, "s"),
)
"""Name and unit of each field of a turn."""

Listeners = dict[str, Listener]
"""Listeners by name; the first one is the base of the others."""
Opened = Callable[["KafkaSettings", str, str], AbstractAsyncContextManager[Listeners]]


async def measure_grpc(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over gRPC and over HTTP, of one gateway."""
    return await _compare(system.kafka, broker, _grpc_and_http)


async def measure_tls(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, over HTTPS and over HTTP."""
    return await _compare(system.kafka, broker, _https_and_http)


async def measure_keys(system: "SystemUnderTest", broker: str) -> list[Figure]:
    """Measure requests per second, latencies, and CPU time, with a key, and with a key that has quotas and tasks."""
    return await _compare(system.kafka, broker, _with_and_without_keys, _KEY_LIMIT)


async def _compare(kafka: "KafkaSettings", broker: str, opened: Opened, most_cpu: float | None = None) -> list[Figure]:
    async with answered_task(kafka) as (task, dsn), opened(kafka, task, dsn) as listeners:
        rounds = await take_turns(listeners, SECONDS)
    base, *others = listeners
    pairs = {name: [(turns[name], turns[base]) for turns in rounds.taken] for name in others}
    return rounds.of(figure for name, both in pairs.items() for figure in _figures(name, broker, both, most_cpu))


def _figures(name: str, broker: str, pairs: Sequence[tuple[Turn, Turn]], most_cpu: float | None) -> Iterator[Figure]:
    """Yield the figures of a listener from its turns, each beside the base's turn of the same round.

    Each figure is the base's median times the median of the ratios. The CPU time at a steady rate, which varies least,
    should be at most `most_cpu` times the base's.
    """
    for at, (column, unit) in enumerate(_COLUMNS):
        baseline = median(base[at] for _, base in pairs)
        values = [baseline * own[at] / base[at] for own, base in pairs]
        if column == _PACED_CPU and most_cpu is not None:
            yield at_most(f"{name}, {column}", broker, values, unit, baseline, most_cpu)
        else:
            yield beside(f"{name}, {column}", broker, values, unit, baseline)


def in_python(url: str, env: Mapping[str, str] = {}) -> LoadOn:
    """Return a load by a client in Python, with additions to its environment."""
    return lambda seconds, rate: load_url(url, seconds, CONNECTIONS, rate, env)


@asynccontextmanager
async def _grpc_and_http(kafka: "KafkaSettings", task: str, dsn: str) -> AsyncGenerator[Listeners]:
    port, grpc_port = free_port(), free_port()
    async with running_gateway(kafka, dsn, port, "--grpc-port", str(grpc_port)) as pid:
        yield {
            "HTTP": Listener(pid, in_python(f"http://{LOOPBACK}:{port}{infer_path(task)}")),
            "gRPC over HTTP": Listener(pid, in_python(f"grpc://{LOOPBACK}:{grpc_port}/{task}")),
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
                "HTTP": Listener(pid, in_python(f"http://{LOOPBACK}:{port}{infer_path(task)}")),
                "HTTPS over HTTP": Listener(
                    tls_pid, in_python(f"https://{LOOPBACK}:{tls_port}{infer_path(task)}", env)
                ),
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
    async with (
        compiled_client() as client,
        running_gateway(kafka, dsn, port) as pid,
        running_gateway(kafka, dsn, keyed_port, "--auth", "true") as keyed_pid,
    ):
        yield {"none": Listener(pid, compiled_load(client, port, task))} | {
            f"{name} over none": Listener(
                keyed_pid, compiled_load(client, keyed_port, task, {"Authorization": f"Bearer {key}"})
            )
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
