"""CPU time per query of all processes and the broker, over a bare program of three Kafka hops.

Ours is a small model queried by name over HTTP: gateway, selector, worker, the broker, and all other services, without
the client. The bare program is a client, two forwarding processes and the broker. Both carry the same bytes and take
turns on the same broker. A query that shares its Kafka requests with others costs much less, so each rate is a separate
figure. The log shows the CPU time of each process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import psutil
from rich.console import Console

from bench.core.figures import Figure, Measured, at_most, beside, percentile
from bench.core.programs import cpu_s, cpu_seconds
from bench.core.rounds import take_rounds
from bench.latency.end_to_end import bare_hops
from bench.load.http_load import HttpLoad, LoadShape, compiled_client
from bench.load.http_message import infer_request
from bench.load.kafka_load import ClientLoad
from schemas import headers as h
from schemas.oip import EncodedMessage, encode_request
from zoo.samples import labelled

if TYPE_CHECKING:
    from bench.core.system import SystemUnderTest

TASK: Final = "mnist"
VARIANT: Final = "mnist-cnn-m.onnx-fp32.cpu"
RATES: Final = (200.0, 900.0, 3000.0)
LIMITS: Final = {900.0: 0.6}
"""Limits of ours over the bare program's, by rate; no promise for other rates."""
QUERIES: Final = 6_000
"""Most queries per round, enough that the kernel's resolution of CPU time does not matter."""
LONGEST_S: Final = 8.0
WARM_UP_S: Final = 4.0
_CONNECTIONS: Final = 64
_CLIENT, _BROKER = "client", "java"

Cost = dict[str, float]
"""CPU time by process: seconds in all, or milliseconds per query."""


async def measure(
    system: "SystemUnderTest", broker: str, console: Console, rates: tuple[float, ...] = RATES
) -> list[Figure]:
    """Measure the milliseconds of CPU per query. The system must be up, with the task `mnist` registered."""
    query = _one_image()
    headers = [(h.JSON_LENGTH, str(query.json_length).encode())]
    async with (
        compiled_client() as client,
        bare_hops(system.kafka) as entry,
        ClientLoad(system.kafka, entry, query.value, headers) as bare,
    ):
        return await _compare(system, broker, console, rates, http_load(system, client), bare)


async def _compare(
    system: "SystemUnderTest",
    broker: str,
    console: Console,
    rates: tuple[float, ...],
    load: HttpLoad,
    bare: ClientLoad,
) -> list[Figure]:
    figures: list[Figure] = []
    for rate in (rates[-1], *rates):
        await bare.run(rate, WARM_UP_S)
        await load.run(load_shape(rate, WARM_UP_S))
    for rate in rates:

        async def take(_number: int, rate: float = rate) -> tuple[Cost, Cost]:
            baseline = await _cost_of_bare(system, bare, rate, console)
            return await cost_of_system(system, load, load_shape(rate, _seconds(rate)), console), baseline

        rounds = await take_rounds(take)
        ours, baseline = (list(costs) for costs in zip(*rounds.taken, strict=True))
        figures += rounds.of([_figure(broker, rate, totals_ms(ours), totals_ms(baseline))])
        console.log(f"{broker}: {rate:g}/s: {described(ours)}; bare {described(baseline)}")
    return figures


def _seconds(rate: float) -> float:
    return min(LONGEST_S, QUERIES / rate)


async def _cost_of_bare(system: "SystemUnderTest", bare: ClientLoad, rate: float, console: Console) -> Cost:
    seconds = _seconds(rate)
    before = _bare_cpu(system)
    answers = await bare.run(rate, seconds)
    after = _bare_cpu(system)
    times_ms = [answer.total_ms for answer in answers]
    console.log(f"bare {rate:g}/s: p50 {percentile(times_ms, 0.5):.2f} ms, p99 {percentile(times_ms, 0.99):.2f} ms")
    return per_query_ms(before, after, len(answers))


async def cost_of_system(system: "SystemUnderTest", load: HttpLoad, shape: LoadShape, console: Console) -> Cost:
    """Return the milliseconds of CPU per query of a system under load, by process."""
    supervisor = psutil.Process(system.pid)
    before = cpu_seconds(supervisor)
    report = await load.run(shape)
    after = cpu_seconds(supervisor)
    console.log(
        f"ours {shape.rate:g}/s: p50 {report.p50_ms:.2f} ms, p99 {report.p99_ms:.2f} ms, "
        f"{report.sent - report.answered} of {report.sent} not answered, {report.answered / report.elapsed_s:.0f}/s"
    )
    return per_query_ms(before, after, report.answered)


def _one_image() -> EncodedMessage:
    inputs, _labels = labelled(TASK)
    return encode_request({name: array[:1] for name, array in inputs.items()})


def http_load(system: "SystemUnderTest", client: Path) -> HttpLoad:
    """Return a load of queries of one image on a system, by the compiled client."""
    return HttpLoad(client, urlsplit(system.gateway).port or 0, [infer_request(VARIANT, _one_image())])


def load_shape(rate: float, seconds: float) -> LoadShape:
    """Return the shape of a load at `rate` queries a second."""
    return LoadShape(seconds=seconds, connections=_CONNECTIONS, rate=rate)


def _bare_cpu(system: "SystemUnderTest") -> Cost:
    """Return the CPU seconds of this process (the bare client), of the forwarders, and of the broker."""
    me = psutil.Process()
    by_name = {_CLIENT: cpu_s(me)}
    for number, child in enumerate(me.children()):
        if "bench.core.baseline" in child.cmdline():
            by_name[f"forwarder {number}"] = cpu_s(child)
    by_name[_BROKER] = cpu_seconds(psutil.Process(system.pid)).get(_BROKER, 0.0)
    return by_name


def per_query_ms(before: Mapping[str, float], after: Mapping[str, float], queries: int) -> Cost:
    """Return the milliseconds of CPU per query by process, from CPU seconds before and after `queries` queries."""
    return {name: 1e3 * (taken - before.get(name, 0.0)) / max(queries, 1) for name, taken in after.items()}


def totals_ms(rounds: Sequence[Cost]) -> list[float]:
    """Return the sum over all processes of each round."""
    return [sum(cost.values()) for cost in rounds]


def described(rounds: list[Cost]) -> str:
    """Return the milliseconds per query in all, and of each process that takes some, the medians of the rounds."""
    shares = {name: median(cost.get(name, 0.0) for cost in rounds) for name in rounds[-1]}
    parts = [f"{name} {ms:.3f}" for name, ms in sorted(shares.items(), key=lambda item: -item[1]) if ms >= 0.001]
    return f"{median(totals_ms(rounds)):.3f} ({', '.join(parts)})"


def _figure(broker: str, rate: float, ours_ms: Measured, bare_ms: Measured) -> Figure:
    name = f"CPU a query of all processes, {rate:g}/s"
    limit = LIMITS.get(rate)
    if limit is not None and broker == "apache":
        return at_most(name, broker, ours_ms, "ms", bare_ms, limit)
    return beside(name, broker, ours_ms, "ms", bare_ms)
