"""Run the benches: `python -m bench [--broker embedded|apache|both] [--only NAME ...]`.

Writes `bench/results.json`, `docs/benchmarks.md` and the README's table; figures of other runs are kept.
"""

import argparse
import asyncio

from rich.console import Console
from rich.table import Table

from bench import cascade, idle, overload
from bench.core.figures import Figure
from bench.core.system import running_system
from bench.latency import crash, end_to_end, offline
from bench.results import write_results
from bench.throughput import cost, gateway, grpc, price, runtimes, selector, tls, worker

BROKERS = ("apache", "embedded")
BENCHES = (
    "overhead",
    "offline",
    "selector",
    "gateway",
    "grpc",
    "tls",
    "keys",
    "worker",
    "runtimes",
    "crash",
    "overload",
    "idle",
    "cost",
    "cascade",
)


async def _run(broker: str, only: set[str], console: Console) -> list[Figure]:
    figures: list[Figure] = []
    if "idle" in only:
        async with running_system(broker, *idle.TASKS) as system:
            console.log(f"{broker}: idle")
            figures += await idle.measure(system, broker, console)
    if "overload" in only and broker == "apache":
        async with running_system(broker, overload.TASK) as system:
            console.log(f"{broker}: overload")
            figures += await overload.measure(system, broker, console)
    if "cost" in only and broker == "apache":
        async with running_system(broker, cost.TASK) as system:
            console.log(f"{broker}: CPU a query")
            figures += await cost.measure(system, broker, console)
    if "cascade" in only and broker == "apache":
        async with running_system(broker, cascade.TASK) as system:
            console.log(f"{broker}: cascade")
            figures += await cascade.measure(system, broker, console)
    if not only - {"idle", "overload", "cost", "cascade"}:
        return figures
    async with running_system(broker, "digits") as system:
        if "overhead" in only:
            console.log(f"{broker}: end to end")
            figures += await end_to_end.measure(system.kafka, broker)
        if "offline" in only:
            console.log(f"{broker}: online beside offline")
            figures += await offline.measure(system, broker)
        if "gateway" in only:
            console.log(f"{broker}: gateway")
            figures += await gateway.measure(system, broker)
        if "tls" in only:
            console.log(f"{broker}: gateway over TLS")
            figures += await tls.measure(system, broker)
        if "grpc" in only:
            console.log(f"{broker}: gRPC beside HTTP")
            figures += await grpc.measure(system, broker)
        if "keys" in only:
            console.log(f"{broker}: price of keys")
            figures += await price.measure(system, broker)
        if "crash" in only:
            console.log(f"{broker}: SIGKILL under load")
            figures += await crash.measure(system, broker)
        if "selector" in only:
            console.log(f"{broker}: selector")
            figures += await selector.measure(system, broker)
        if "worker" in only:
            console.log(f"{broker}: worker")
            figures += await worker.measure(system, broker)
        if "runtimes" in only and broker == "apache":
            console.log(f"{broker}: worker, other runtimes")
            figures += await runtimes.measure(system, broker, console)
    return figures


def show(console: Console, figures: list[Figure]) -> None:
    """Print the figures as a table."""
    table = Table("figure", "broker", "ours", "baseline", "ratio", "target", "passed")
    for f in figures:
        table.add_row(
            f.name,
            f.broker,
            f"{f.value:,.4g} {f.unit}",
            "" if f.baseline is None else f"{f.baseline:,.4g} {f.unit}",
            "" if f.ratio is None else f"{f.ratio:.2f}",
            f.target,
            {True: "yes", False: "[red]no[/]", None: ""}[f.passed],
        )
    console.print(table)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", choices=(*BROKERS, "both"), default="both")
    parser.add_argument("--only", choices=BENCHES, nargs="+", default=list(BENCHES))
    wanted = parser.parse_args()
    brokers = BROKERS if wanted.broker == "both" else (wanted.broker,)
    console = Console()
    figures: list[Figure] = []
    for broker in brokers:
        figures += asyncio.run(_run(broker, set(wanted.only), console))
    show(console, figures)
    write_results(figures)


if __name__ == "__main__":
    main()
