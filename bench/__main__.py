"""Run the benches: `python -m bench [--broker apache|embedded|both] [--only NAME ...]`.

Writes `bench/results.json`, `docs/benchmarks.md` and the README's table; figures of other runs are kept. The tables are
of Apache Kafka. All figures of a run have the commit of its begin, so leave the tree alone until its end.
"""

import argparse
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import uvloop
from rich.console import Console

from bench import cascade, generation, idle, overload
from bench.core.figures import Figure
from bench.core.system import SystemUnderTest, running_system
from bench.latency import crash, end_to_end, offline, tail
from bench.results import Origin, origin, publish
from bench.throughput import cost, fetch, gateway, gateway_options, runtimes, selector, tracing, worker
from zoo.catalog import models_of

BROKERS = ("apache", "embedded")
Measure = Callable[[SystemUnderTest, str, Console], Awaitable[list[Figure]]]


class Bench(NamedTuple):
    """Bench of the command line."""

    title: str
    measure: Measure
    brokers: tuple[str, ...] = BROKERS


def _quiet(measure: Callable[[SystemUnderTest, str], Awaitable[list[Figure]]]) -> Measure:
    return lambda system, broker, _console: measure(system, broker)


_APACHE = ("apache",)
BENCHES = {
    "idle": Bench("idle", idle.measure),
    "tail": Bench("tail", tail.measure, _APACHE),
    "cost": Bench("CPU a query", cost.measure, _APACHE),
    "traces": Bench("price of traces", tracing.measure, _APACHE),
    "overhead": Bench("end to end", _quiet(end_to_end.measure)),
    "offline": Bench("online beside offline", _quiet(offline.measure)),
    "gateway": Bench("gateway", _quiet(gateway.measure)),
    "tls": Bench("gateway over TLS", _quiet(gateway_options.measure_tls)),
    "grpc": Bench("gRPC beside HTTP", _quiet(gateway_options.measure_grpc)),
    "keys": Bench("price of keys", _quiet(gateway_options.measure_keys)),
    "fetch": Bench("fetch beside idle partitions", _quiet(fetch.measure), _APACHE),
    "selector": Bench("selector", _quiet(selector.measure)),
    "worker": Bench("worker", _quiet(worker.measure)),
    "runtimes": Bench("worker, other runtimes", runtimes.measure, _APACHE),
    "generation": Bench("language models", generation.measure, _APACHE),
    "cascade": Bench("cascade", cascade.measure, _APACHE),
    "crash": Bench("SIGKILL under load", _quiet(crash.measure)),
    "overload": Bench("overload", overload.measure, _APACHE),
}
"""Benches in the order in which they run."""


async def _run(broker: str, only: set[str], begin: Origin, console: Console) -> None:
    """Run benches on one system with the whole zoo, as a newcomer has it, and store the figures of each."""
    wanted = [bench for name, bench in BENCHES.items() if name in only and broker in bench.brokers]
    if wanted:
        async with running_system(broker, *sorted({model.task for model in models_of(())})) as system:
            for bench in wanted:
                console.log(f"{broker}: {bench.title}")
                publish(console, await bench.measure(system, broker, console), begin)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=(*BROKERS, "both"), default=BROKERS[0])
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    wanted = parser.parse_args()
    brokers = BROKERS if wanted.broker == "both" else (wanted.broker,)
    console, begin = Console(), origin()
    for broker in brokers:
        uvloop.run(_run(broker, set(wanted.only), begin, console))


if __name__ == "__main__":
    main()
