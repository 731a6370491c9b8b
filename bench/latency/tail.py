"""Tail of the latency at a steady rate: p99 over p50, and the delays of the services' event loops by cause.

A small model of the zoo is queried by name over HTTP, as in the bench of the CPU time. The delays come from the
services' metrics; the log shows them by service and cause.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from bench.core.figures import Figure, at_most, plain
from bench.core.rounds import take_rounds
from bench.load.http_load import HttpLoad, LoadShape, compiled_client
from bench.load.http_message import infer_request
from bench.throughput.cost import TASK, VARIANT
from schemas.oip import encode_request
from zoo.samples import labelled

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

RATE: Final = 900.0
SECONDS: Final = 10.0
MOST: Final = 2.0
"""Limit of p99 over p50."""
_LONG: Final = "0.01"
"""Upper bound in seconds of the buckets of delays that are not long."""
_CONNECTIONS: Final = 64
_WARM_UP_S: Final = 5.0
_METRIC: Final = "infaas_event_loop_delay_seconds"
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)

DelayCounts = Counter[tuple[str, str, str]]
"""Number of samples by service, cause, and `all` or `long`."""


async def measure(system: "SystemUnderTest", broker: str, console: Console) -> list[Figure]:
    """Measure both; the system must be up, with the zoo registered."""
    inputs, _labels = labelled(TASK)
    request = infer_request(VARIANT, encode_request({name: array[:1] for name, array in inputs.items()}))
    async with compiled_client() as client:
        load = HttpLoad(client, urlsplit(system.gateway).port or 0, [request])
        await load.run(_shape(_WARM_UP_S))
        before = await read_delays(await system.metrics())
        rounds = await take_rounds(lambda _number: load.run(_shape(SECONDS)))
        delays = await read_delays(await system.metrics())
    delays.subtract(before)
    shares = long_shares(delays)
    for service, causes in shares.items():
        parts = ", ".join(f"{cause} {share:.2%}" for cause, share in causes.items())
        console.log(f"{broker}: {service}: samples with a delay over 10 ms: {parts}")
    worst = max(sum(causes.values()) for causes in shares.values())
    p50_ms, p99_ms = ([getattr(report, name) for report in rounds.taken] for name in ("p50_ms", "p99_ms"))
    return rounds.of(
        [
            at_most(f"HTTP at {RATE:g}/s: p99 over p50", broker, p99_ms, "ms", p50_ms, MOST),
            plain(
                f"HTTP at {RATE:g}/s: event loop delays over 10 ms, worst service", broker, 100 * worst, "% of samples"
            ),
        ]
    )


def _shape(seconds: float) -> LoadShape:
    return LoadShape(seconds=seconds, connections=_CONNECTIONS, rate=RATE)


async def read_delays(urls: Mapping[str, str]) -> DelayCounts:
    """Read the counts of delays from the metrics of services, by their names."""
    found = DelayCounts()
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as http:
        for service, url in urls.items():
            async with http.get(url) as response:
                found.update(delay_counts(service, await response.text()))
    return found


def delay_counts(service: str, metrics: str) -> DelayCounts:
    """Return the counts of delays in the metrics of a service."""
    found = DelayCounts()
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            if sample.name == f"{_METRIC}_count":
                found[service, sample.labels["cause"], "all"] += int(sample.value)
                found[service, sample.labels["cause"], "long"] += int(sample.value)
            elif sample.name == f"{_METRIC}_bucket" and sample.labels["le"] == _LONG:
                found[service, sample.labels["cause"], "long"] -= int(sample.value)
    return found


def long_shares(counts: DelayCounts) -> dict[str, dict[str, float]]:
    """Return the share of long delays in all samples of a service, by service and cause."""
    every = Counter[str]()
    for (service, _cause, kind), count in counts.items():
        if kind == "all":
            every[service] += count
    shares: dict[str, dict[str, float]] = {}
    for (service, cause, kind), count in counts.items():
        if kind == "long" and every[service]:
            shares.setdefault(service, {})[cause] = count / every[service]
    return shares
